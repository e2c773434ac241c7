//! The key that both sides know, and what it signs (TSIG, RFC 8945). Pure.

use hmac::{Hmac, KeyInit, Mac};
use metactl_bundles::secrets::Hidden;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::Name;
use super::message::{HEADER, code};

/// The type of the record (RFC 8945 section 4.2).
pub(crate) const TYPE: u16 = 250;
/// Its class.
const ANY: u16 = 255;
/// How far clocks may differ, in seconds (section 10).
const FUDGE: u16 = 300;

/// A keyed hash (section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha224
    Sha224,
    /// hmac-sha256, which `tsig-keygen` takes.
    Sha256,
    /// hmac-sha384
    Sha384,
    /// hmac-sha512
    Sha512,
}

pub(super) const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("hmac-sha224", Algorithm::Sha224),
    ("hmac-sha256", Algorithm::Sha256),
    ("hmac-sha384", Algorithm::Sha384),
    ("hmac-sha512", Algorithm::Sha512),
];

impl Algorithm {
    fn name(self) -> &'static str {
        let same = |(_, algorithm): &&(&str, Algorithm)| *algorithm == self;
        ALGORITHMS.iter().find(same).map_or("", |(name, _)| name)
    }
}

/// A key. Printing it shows its name, not its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What it is called; both sides have to call it the same.
    pub name: Name,
    /// What it is used with.
    pub algorithm: Algorithm,
    pub(super) secret: Hidden,
}

impl Key {
    /// Signs a question: appends the record, and returns the MAC, which the answer is signed along with. `now` in seconds
    /// since 1970.
    pub fn sign(&self, message: &mut Vec<u8>, now: u64) -> Vec<u8> {
        let id = [message.first(), message.get(1)].map(|byte| byte.copied().unwrap_or(0));
        let mut signature = Signature {
            key: self.name.clone(),
            algorithm: Name::parse(self.algorithm.name()).ok(),
            time: now,
            fudge: FUDGE,
            mac: Vec::new(),
            original_id: u16::from_be_bytes(id),
            error: code::OK,
            other: Vec::new(),
        };
        signature.mac = self.mac(&[message, &self.variables(&signature)]);
        self.name.write(message);
        message.extend(TYPE.to_be_bytes());
        message.extend(ANY.to_be_bytes());
        message.extend([0; 4]);
        let data = self.record_data(&signature);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
        count_additional(message, 1);
        signature.mac
    }

    /// Whether an answer is signed with this key, as the answer to the question that has `question` for a MAC.
    /// `begin` is where the signature's record begins.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn verify(
        &self,
        answer: &[u8],
        signature: &Signature,
        begin: usize,
        question: &[u8],
        now: u64,
    ) -> Result<(), String> {
        let algorithm = signature.algorithm.as_ref().map(Name::as_str);
        if signature.key != self.name || algorithm != Some(self.algorithm.name()) {
            return Err("it is signed with another key".to_owned());
        }
        let mut signed = answer.get(..begin).unwrap_or_default().to_vec();
        if signed.len() < HEADER {
            return Err("it is too short".to_owned());
        }
        signed[..2].copy_from_slice(&signature.original_id.to_be_bytes());
        count_additional(&mut signed, -1);
        let length = (question.len() as u16).to_be_bytes();
        let parts: [&[u8]; 4] = [&length, question, &signed, &self.variables(signature)];
        // Not truncated: nobody asked for that (section 5.2.2.1).
        if !self.is_mac(&parts, &signature.mac) {
            return Err("its signature is wrong".to_owned());
        }
        // An answer that says that the clocks differ has the time of the question (section 5.2.3).
        let apart = signature.time.abs_diff(now);
        if signature.error != code::BADTIME && apart > signature.fudge.into() {
            return Err(format!("it is {apart} s old or early"));
        }
        Ok(())
    }

    /// What is signed besides the message (section 4.3.3).
    fn variables(&self, signature: &Signature) -> Vec<u8> {
        let mut out = Vec::new();
        self.name.write(&mut out);
        out.extend(ANY.to_be_bytes());
        out.extend([0; 4]);
        self.algorithm_name(&mut out);
        out.extend(&signature.time.to_be_bytes()[2..]);
        out.extend(signature.fudge.to_be_bytes());
        out.extend(signature.error.to_be_bytes());
        out.extend((signature.other.len() as u16).to_be_bytes());
        out.extend(&signature.other);
        out
    }

    /// The data of the record (section 4.2).
    fn record_data(&self, signature: &Signature) -> Vec<u8> {
        let mut out = Vec::new();
        self.algorithm_name(&mut out);
        out.extend(&signature.time.to_be_bytes()[2..]);
        out.extend(signature.fudge.to_be_bytes());
        out.extend((signature.mac.len() as u16).to_be_bytes());
        out.extend(&signature.mac);
        out.extend(signature.original_id.to_be_bytes());
        out.extend(signature.error.to_be_bytes());
        out.extend((signature.other.len() as u16).to_be_bytes());
        out.extend(&signature.other);
        out
    }

    fn algorithm_name(&self, out: &mut Vec<u8>) {
        let name = self.algorithm.name();
        out.push(name.len() as u8);
        out.extend(name.bytes());
        out.push(0);
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        let secret = self.secret.bytes();
        match self.algorithm {
            Algorithm::Sha224 => mac_with::<Hmac<Sha224>>(secret, parts),
            Algorithm::Sha256 => mac_with::<Hmac<Sha256>>(secret, parts),
            Algorithm::Sha384 => mac_with::<Hmac<Sha384>>(secret, parts),
            Algorithm::Sha512 => mac_with::<Hmac<Sha512>>(secret, parts),
        }
    }

    /// Compares in a time that says nothing about where the first difference is.
    fn is_mac(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        let secret = self.secret.bytes();
        match self.algorithm {
            Algorithm::Sha224 => is_mac_with::<Hmac<Sha224>>(secret, parts, mac),
            Algorithm::Sha256 => is_mac_with::<Hmac<Sha256>>(secret, parts, mac),
            Algorithm::Sha384 => is_mac_with::<Hmac<Sha384>>(secret, parts, mac),
            Algorithm::Sha512 => is_mac_with::<Hmac<Sha512>>(secret, parts, mac),
        }
    }
}

/// HMAC takes keys of every length (RFC 2104), so that there is always one.
fn hash_of<M: Mac + KeyInit>(secret: &[u8], parts: &[&[u8]]) -> Option<M> {
    let mut hash = <M as KeyInit>::new_from_slice(secret).ok()?;
    parts.iter().for_each(|part| hash.update(part));
    Some(hash)
}

fn mac_with<M: Mac + KeyInit>(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mac = hash_of::<M>(secret, parts).map(|hash| hash.finalize().into_bytes().to_vec());
    mac.unwrap_or_default()
}

fn is_mac_with<M: Mac + KeyInit>(secret: &[u8], parts: &[&[u8]], mac: &[u8]) -> bool {
    hash_of::<M>(secret, parts).is_some_and(|hash| hash.verify_slice(mac).is_ok())
}

/// Changes the number of additional records in the header.
fn count_additional(message: &mut [u8], by: i16) {
    if let Some([high, low]) = message.get_mut(10..HEADER) {
        let count = u16::from_be_bytes([*high, *low]).wrapping_add_signed(by);
        [*high, *low] = count.to_be_bytes();
    }
}

/// The data of the record (section 4.2), as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) key: Name,
    pub(crate) algorithm: Option<Name>,
    pub(crate) time: u64,
    pub(crate) fudge: u16,
    pub(crate) mac: Vec<u8>,
    pub(crate) original_id: u16,
    /// [`code`]; that of the header has too few bits.
    pub(crate) error: u16,
    pub(crate) other: Vec<u8>,
}

impl Signature {
    /// Reads the data between `at` and `end`, which is all of it.
    pub(crate) fn read(
        key: Name,
        class: u16,
        message: &[u8],
        at: usize,
        end: usize,
    ) -> Option<Signature> {
        let (algorithm, at) = Name::read(message, at)?;
        let mut rest = message.get(at..end)?;
        let mut take = |count: usize| -> Option<&[u8]> {
            let (taken, left) = rest.split_at_checked(count)?;
            rest = left;
            Some(taken)
        };
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let word = |bytes: &[u8]| number(bytes) as u16;
        let time = number(take(6)?);
        let fudge = word(take(2)?);
        let length = usize::from(word(take(2)?));
        let mac = take(length)?.to_vec();
        let original_id = word(take(2)?);
        let error = word(take(2)?);
        let length = usize::from(word(take(2)?));
        let other = take(length)?.to_vec();
        let whole = rest.is_empty() && class == ANY;
        whole.then_some(Signature {
            key,
            algorithm,
            time,
            fudge,
            mac,
            original_id,
            error,
            other,
        })
    }

    /// The server's time, when the clocks differ (section 5.2.3).
    pub(crate) fn server_time(&self) -> Option<u64> {
        let bytes: [u8; 6] = self.other.as_slice().try_into().ok()?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::message;
    use super::*;

    fn key(algorithm: Algorithm, secret: &[u8]) -> Key {
        Key {
            name: Name::parse("k.example").unwrap(),
            algorithm,
            secret: Hidden::from(secret),
        }
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hashes_are_those_of_the_rfc() {
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        for (algorithm, expected) in [
            (
                Algorithm::Sha224,
                "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44",
            ),
            (
                Algorithm::Sha256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Algorithm::Sha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                Algorithm::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let key = key(algorithm, b"Jefe");
            let mac = key.mac(&parts);
            let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected);
            assert!(key.is_mac(&parts, &mac) && !key.is_mac(&parts, &mac[1..]));
        }
    }

    /// An answer as a server with the same key makes it: the question with the bit of an answer, signed along with the
    /// question's MAC.
    pub(crate) fn answer_to(key: &Key, question: &[u8], mac: &[u8], now: u64) -> Vec<u8> {
        signed(key, question, mac, now, None)
    }

    /// With `server_time`: the answer of a server whose clock shows that (RFC 8945 section 5.2.3).
    pub(crate) fn signed(
        key: &Key,
        question: &[u8],
        mac: &[u8],
        now: u64,
        server_time: Option<u64>,
    ) -> Vec<u8> {
        let mut answer = question[..HEADER].to_vec();
        answer[2] |= 0x80;
        answer[4..].fill(0);
        answer[3] = if server_time.is_some() { 9 } else { 0 };
        let signature = Signature {
            key: key.name.clone(),
            algorithm: Name::parse(key.algorithm.name()).ok(),
            time: now,
            fudge: FUDGE,
            mac: Vec::new(),
            original_id: u16::from_be_bytes([answer[0], answer[1]]),
            error: server_time.map_or(0, |_| code::BADTIME),
            other: server_time.map_or_else(Vec::new, |time| time.to_be_bytes()[2..].to_vec()),
        };
        let length = (mac.len() as u16).to_be_bytes();
        let own = key.mac(&[&length, mac, &answer, &key.variables(&signature)]);
        key.name.write(&mut answer);
        answer.extend([0, 250, 0, 255, 0, 0, 0, 0]);
        let data = key.record_data(&Signature {
            mac: own,
            ..signature
        });
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
        answer[11] = 1;
        answer
    }

    /// The MAC of a signed question, with a hash of 32 bytes: 6 bytes of it stand after it.
    pub(crate) fn mac_of(question: &[u8]) -> Vec<u8> {
        let end = question.len() - 6;
        question[end - 32..end].to_vec()
    }

    #[test]
    fn answers_are_verified_bit_by_bit() {
        let key = key(Algorithm::Sha256, b"secret");
        let mut question = message::zone_query(0x1234, &Name::parse("a.example").unwrap());
        let mac = key.sign(&mut question, 1_000_000);
        let answer = answer_to(&key, &question, &mac, 1_000_010);
        let verify = |bytes: &[u8], now: u64| {
            let read = message::read(bytes).ok_or("unreadable")?;
            let (signature, begin) = read.signature.ok_or("unsigned")?;
            key.verify(bytes, &signature, begin, &mac, now)
        };
        assert_eq!(verify(&answer, 1_000_010), Ok(()));
        assert!(verify(&answer, 1_000_311).unwrap_err().contains("301 s"));
        for at in 0..answer.len() * 8 {
            let mut wrong = answer.clone();
            wrong[at / 8] ^= 1 << (at % 8);
            // The number of the message is not signed: the original one is (RFC 8945 section 5.3.1). Upper case is
            // the same name.
            let in_a_name = (HEADER..HEADER + 34).contains(&(at / 8));
            let free = at < 16 || in_a_name && wrong.eq_ignore_ascii_case(&answer);
            assert_eq!(verify(&wrong, 1_000_010).is_ok(), free, "bit {at}");
        }
        let other = super::Key {
            secret: Hidden::from(&b"other"[..]),
            ..key.clone()
        };
        let forged = answer_to(&other, &question, &mac, 1_000_010);
        assert!(verify(&forged, 1_000_010).unwrap_err().contains("wrong"));
        // That of another question is no answer to this one.
        let replayed = answer_to(&key, &question, b"another mac", 1_000_010);
        assert!(verify(&replayed, 1_000_010).is_err());
    }

    #[test]
    fn nothing_that_is_received_makes_it_panic() {
        let key = key(Algorithm::Sha256, b"secret");
        let mut question = message::zone_query(7, &Name::parse("a.example").unwrap());
        let mac = key.sign(&mut question, 1_000_000);
        let answer = answer_to(&key, &question, &mac, 1_000_000);
        let mut state = 1_u64;
        let mut random = |below: usize| {
            // Knuth's MMIX: the same numbers in every run.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut read = 0;
        for _ in 0..100_000 {
            let mut bytes = if random(2) == 0 {
                answer.clone()
            } else {
                question.clone()
            };
            for _ in 0..=random(6) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            bytes.truncate(random(bytes.len() * 4).max(1));
            let Some(found) = message::read(&bytes) else {
                continue;
            };
            read += 1;
            if let Some((signature, begin)) = found.signature {
                let verified = key.verify(&bytes, &signature, begin, &mac, 1_000_000);
                assert!(verified.is_err() || bytes[2..12] == answer[2..12]);
            }
        }
        assert!(read > 1000, "{read}");
    }
}
