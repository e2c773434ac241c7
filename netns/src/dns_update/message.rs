//! Messages to a name server and from it: as much of RFC 1035 section 4 and RFC 2136 section 2 as is needed. Pure.

use std::net::IpAddr;

use super::tsig::{self, Signature};
use super::{Data, Name, Update};

/// The length of the header.
pub(crate) const HEADER: usize = 12;
/// The opcode of an update, in the flags.
const UPDATE: u16 = 5 << 11;
/// This is an answer; it was cut.
const ANSWER: u16 = 1 << 15;
const TRUNCATED: u16 = 1 << 9;

/// Types and classes (RFC 1035 section 3.2, RFC 3596, RFC 2136 section 2).
const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const IN: u16 = 1;
const NONE: u16 = 254;

/// Response codes (RFC 6895 section 2.3).
pub mod code {
    /// No error.
    pub const OK: u16 = 0;
    /// The name does not exist: an answer too.
    pub const NXDOMAIN: u16 = 3;
    /// Something exists that must not, here: a CNAME.
    pub const YXRRSET: u16 = 7;
    /// It is not the primary of the zone; or the signature is wrong.
    pub const NOTAUTH: u16 = 9;
    /// The clocks differ.
    pub const BADTIME: u16 = 18;

    /// The name of a code.
    pub fn word(code: u16) -> String {
        let word = match code {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            7 => "YXRRSET",
            8 => "NXRRSET",
            9 => "NOTAUTH",
            10 => "NOTZONE",
            16 => "BADSIG",
            17 => "BADKEY",
            18 => "BADTIME",
            22 => "BADTRUNC",
            other => return format!("code {other}"),
        };
        word.to_owned()
    }
}

/// An update as a message, not yet signed. `ttl` in seconds.
pub fn update(id: u16, update: &Update, ttl: u32) -> Vec<u8> {
    let adds = !update.add.is_empty();
    let changes = update.remove.len() + update.add.len();
    // A name has some addresses; section 2.2 counts in 16 bits.
    let changes = u16::try_from(changes).unwrap_or(u16::MAX);
    let mut out = header(id, UPDATE, [1, u16::from(adds), changes, 0]);
    update.zone.write(&mut out);
    words(&mut out, &[SOA, IN]);
    if adds {
        // Section 2.4.3: there is no CNAME.
        record(&mut out, &update.owner, CNAME, NONE, 0, &[]);
    }
    let removed = update.remove.iter().map(|data| (data, NONE, 0));
    let added = update.add.iter().map(|data| (data, IN, ttl));
    for (data, class, ttl) in removed.chain(added).take(changes.into()) {
        let (kind, bytes) = encoded(data);
        record(&mut out, &update.owner, kind, class, ttl, &bytes);
    }
    out
}

/// The question which zone a name is in, not yet signed: an authoritative server answers with the zone's SOA.
pub fn zone_query(id: u16, name: &Name) -> Vec<u8> {
    let mut out = header(id, 0, [1, 0, 0, 0]);
    name.write(&mut out);
    words(&mut out, &[SOA, IN]);
    out
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    words(&mut out, &[id, flags]);
    words(&mut out, &counts);
    out
}

fn words(out: &mut Vec<u8>, words: &[u16]) {
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

fn record(out: &mut Vec<u8>, owner: &Name, kind: u16, class: u16, ttl: u32, data: &[u8]) {
    owner.write(out);
    words(out, &[kind, class]);
    out.extend(ttl.to_be_bytes());
    // The longest is a name: 255 bytes.
    words(out, &[u16::try_from(data.len()).unwrap_or(u16::MAX)]);
    out.extend(data);
}

fn encoded(data: &Data) -> (u16, Vec<u8>) {
    match data {
        Data::Address(IpAddr::V4(v4)) => (A, v4.octets().to_vec()),
        Data::Address(IpAddr::V6(v6)) => (AAAA, v6.octets().to_vec()),
        Data::Pointer(name) => {
            let mut bytes = Vec::new();
            name.write(&mut bytes);
            (PTR, bytes)
        }
    }
}

/// What is of interest in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The number of the question.
    pub id: u16,
    /// Whether it was cut, and TCP has the whole of it.
    pub truncated: bool,
    /// The response code ([`code`]).
    pub code: u16,
    /// The zone whose SOA is in it.
    pub zone: Option<Name>,
    /// The signature, which is its last record, and where that begins.
    pub(crate) signature: Option<(Signature, usize)>,
}

/// Reads an answer, which may be anybody's. Nothing for what is none.
pub fn read(message: &[u8]) -> Option<Answer> {
    let word = |at: usize| {
        Some(u16::from_be_bytes([
            *message.get(at)?,
            *message.get(at + 1)?,
        ]))
    };
    let flags = word(2)?;
    if flags & ANSWER == 0 {
        return None;
    }
    let mut at = HEADER;
    for _ in 0..word(4)? {
        at = Name::read(message, at)?.1 + 4;
    }
    let mut answer = Answer {
        id: word(0)?,
        truncated: flags & TRUNCATED != 0,
        code: flags & 15,
        zone: None,
        signature: None,
    };
    let counts = [word(6)?, word(8)?, word(10)?];
    let total = counts.into_iter().map(usize::from).sum::<usize>();
    for number in 0..total {
        let begin = at;
        let (owner, after) = Name::read(message, at)?;
        let kind = word(after)?;
        let class = word(after + 2)?;
        let data = after + 10;
        at = data + usize::from(word(after + 8)?);
        if at > message.len() {
            return None;
        }
        let is_last = number + 1 == total && counts[2] > 0;
        match kind {
            SOA if class == IN && answer.zone.is_none() => answer.zone = owner,
            // Its time to live is signed as zero.
            tsig::TYPE if is_last && message.get(after + 4..after + 8) == Some(&[0; 4]) => {
                let signature = Signature::read(owner?, class, message, data, at)?;
                answer.signature = Some((signature, begin));
            }
            // Anywhere else it is an error (RFC 8945 section 5.2).
            tsig::TYPE => return None,
            _ => {}
        }
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn an_update_byte_by_byte() {
        let change = Update {
            zone: name("z"),
            owner: name("a.z"),
            remove: vec![Data::Address("10.0.0.1".parse().unwrap())],
            add: vec![Data::Pointer(name("b"))],
        };
        let expected: Vec<u8> = [
            &[1, 2, 0x28, 0, 0, 1, 0, 1, 0, 2, 0, 0][..],
            b"\x01z\0\0\x06\0\x01",
            // No CNAME.
            b"\x01a\x01z\0\0\x05\0\xfe\0\0\0\0\0\0",
            // Delete this record.
            b"\x01a\x01z\0\0\x01\0\xfe\0\0\0\0\0\x04\x0a\0\0\x01",
            // Add that one.
            b"\x01a\x01z\0\0\x0c\0\x01\0\0\0\x3c\0\x03\x01b\0",
        ]
        .concat();
        assert_eq!(update(0x0102, &change, 60), expected);
        // What only removes needs nothing.
        let change = Update {
            add: Vec::new(),
            ..change
        };
        assert_eq!(update(1, &change, 60)[6..8], [0, 0]);
    }

    #[test]
    fn the_zone_of_an_answer_is_that_of_its_soa() {
        let mut message = header(7, ANSWER | TRUNCATED | 3, [1, 0, 1, 0]);
        name("5.0.10.in-addr.arpa").write(&mut message);
        words(&mut message, &[SOA, IN]);
        record(
            &mut message,
            &name("10.in-addr.arpa"),
            SOA,
            IN,
            60,
            &[0; 22],
        );
        let answer = read(&message).unwrap();
        assert_eq!(answer.zone, Some(name("10.in-addr.arpa")));
        assert_eq!((answer.id, answer.code, answer.truncated), (7, 3, true));
        assert!(answer.signature.is_none());
        // Every beginning of it is none.
        for end in 0..message.len() {
            assert_eq!(read(&message[..end]), None, "{end}");
        }
        // A question is no answer.
        assert_eq!(read(&zone_query(7, &name("a"))), None);
    }
}
