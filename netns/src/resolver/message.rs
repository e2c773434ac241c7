//! DNS messages (RFC 1035, 4; EDNS: RFC 6891). Read strictly, with bounds; what is sent is always made anew or
//! was read completely before.

use std::net::IpAddr;

use super::name::Name;

pub(super) const HEADER: usize = 12;
pub(super) const CLASS_IN: u16 = 1;
pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
const OPT: u16 = 41;

/// Response codes.
pub(super) const NOERROR: u8 = 0;
pub(super) const FORMERR: u8 = 1;
pub(super) const SERVFAIL: u8 = 2;
pub(super) const NXDOMAIN: u8 = 3;
pub(super) const NOTIMP: u8 = 4;
pub(super) const REFUSED: u8 = 5;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const CD: u16 = 0x0010;

/// What this resolver takes and sends in one datagram: the largest that needs no fragments anywhere (DNS flag day
/// 2020).
pub(super) const DATAGRAM: usize = 1232;
/// What fits into a datagram for who does not say more.
const SMALL: usize = 512;
/// What fits into a message at all.
pub(super) const MESSAGE_MOST: usize = 65_535;
/// "Blocked" (RFC 8914): why there is no answer.
const BLOCKED: u16 = 15;

/// A message that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// A question from an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Chosen by who asks.
    pub id: u16,
    /// The name.
    pub name: Name,
    /// The type of the records wanted.
    pub kind: u16,
    /// The class; 1 is the internet.
    pub class: u16,
    /// The flags that come back: recursion desired, checking disabled.
    flags: u16,
    /// The question as it was asked, letter by letter.
    question: Vec<u8>,
    /// How long a datagram may be, when the extension mechanism is spoken.
    edns: Option<u16>,
}

/// Why a question cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadQuery {
    /// Not even that can be said.
    Silence,
    /// An answer that says so.
    Answer(Vec<u8>),
}

impl Query {
    /// Reads a question. Exactly one, nothing besides, and nothing behind it.
    pub fn parse(message: &[u8]) -> Result<Query, BadQuery> {
        let header = Header::parse(message).map_err(|_| BadQuery::Silence)?;
        if header.flags & QR != 0 {
            return Err(BadQuery::Silence);
        }
        let fail = |code| {
            let flags = QR | header.flags & (OPCODE | RD) | u16::from(code);
            BadQuery::Answer(head(header.id, flags, [0; 4]))
        };
        if header.flags & OPCODE != 0 {
            return Err(fail(NOTIMP));
        }
        Query::parse_rest(message, &header).map_err(|_| fail(FORMERR))
    }

    fn parse_rest(message: &[u8], header: &Header) -> Result<Query, Malformed> {
        let [1, 0, 0, additional] = header.counts else {
            return Err(Malformed("not one question"));
        };
        let mut at = HEADER;
        let (name, kind, class) = question(message, &mut at)?;
        let asked = message.get(HEADER..at).unwrap_or_default().to_vec();
        let mut edns = None;
        for _ in 0..additional {
            let record = Record::parse(message, &mut at)?;
            if record.kind == OPT {
                if edns.is_some() || record.name.wire() != [0] {
                    return Err(Malformed("two extensions"));
                }
                edns = Some(record.class);
            }
        }
        if at != message.len() {
            return Err(Malformed("something behind the end"));
        }
        Ok(Query {
            id: header.id,
            name,
            kind,
            class,
            flags: header.flags & (RD | CD),
            question: asked,
            edns,
        })
    }

    /// How long an answer in a datagram may be.
    pub fn room(&self) -> usize {
        let wanted = self.edns.map_or(SMALL, usize::from);
        wanted.clamp(SMALL, DATAGRAM)
    }

    /// An answer without records. `why` is told to who speaks EDNS.
    pub fn empty(&self, code: u8, why: Option<&str>) -> Vec<u8> {
        let mut answer = Answer::new(self, usize::MAX);
        answer.code = code;
        answer.why = why.map(str::to_owned);
        answer.finish()
    }
}

/// The first twelve bytes.
struct Header {
    id: u16,
    flags: u16,
    /// Questions, answers, authorities, additional records.
    counts: [u16; 4],
}

impl Header {
    fn parse(message: &[u8]) -> Result<Header, Malformed> {
        let word = |at| u16_at(message, at).ok_or(Malformed("the header ends early"));
        Ok(Header {
            id: word(0)?,
            flags: word(2)?,
            counts: [word(4)?, word(6)?, word(8)?, word(10)?],
        })
    }
}

fn head(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let words = [id, flags].into_iter().chain(counts);
    words.flat_map(u16::to_be_bytes).collect()
}

fn question(message: &[u8], at: &mut usize) -> Result<(Name, u16, u16), Malformed> {
    let name = Name::parse(message, at)?;
    let early = Malformed("the question ends early");
    let kind = u16_at(message, *at).ok_or(early)?;
    let class = u16_at(message, *at + 2).ok_or(early)?;
    *at += 4;
    Ok((name, kind, class))
}

/// A resource record.
struct Record<'m> {
    name: Name,
    kind: u16,
    class: u16,
    /// Seconds.
    ttl: u32,
    data: &'m [u8],
    /// Where `data` begins: names in it may point elsewhere.
    data_at: usize,
}

impl<'m> Record<'m> {
    fn parse(message: &'m [u8], at: &mut usize) -> Result<Record<'m>, Malformed> {
        let name = Name::parse(message, at)?;
        let early = Malformed("a record ends early");
        let kind = u16_at(message, *at).ok_or(early)?;
        let class = u16_at(message, *at + 2).ok_or(early)?;
        let ttl = message
            .get(*at + 4..*at + 8)
            .and_then(|bytes| bytes.first_chunk());
        let ttl = u32::from_be_bytes(*ttl.ok_or(early)?);
        let length = usize::from(u16_at(message, *at + 8).ok_or(early)?);
        let data_at = *at + 10;
        let data = message.get(data_at..data_at + length).ok_or(early)?;
        *at = data_at + length;
        // RFC 2181, 8: with the highest bit set it is zero.
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Ok(Record {
            name,
            kind,
            class,
            ttl,
            data,
            data_at,
        })
    }
}

/// An answer of a name server, that belongs to the question.
pub struct Response<'m> {
    message: &'m [u8],
    answers: Vec<Record<'m>>,
    /// Those behind the answers: authorities and additional ones.
    rest: Vec<Record<'m>>,
    /// Where the answers end.
    end: usize,
    /// The response code.
    pub code: u8,
    /// It did not fit; nothing in it counts.
    pub truncated: bool,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// The names that it stands for, one after the other.
    pub names: Vec<(Name, u32)>,
    /// The addresses of the last of them, and how long they hold, in seconds: no longer than any name of the chain.
    pub addresses: Vec<IpAddr>,
    /// The least of all times.
    pub ttl: u32,
}

impl Chain {
    /// Before the first record.
    pub(super) fn unfollowed() -> Chain {
        Chain {
            ttl: u32::MAX,
            ..Chain::default()
        }
    }
}

/// No chain of names is longer.
pub(super) const CHAIN_MOST: usize = 16;
/// So many addresses of one answer count, the first ones; nobody tries more.
pub(super) const ADDRESSES_MOST: usize = 64;

impl<'m> Response<'m> {
    /// Reads an answer to the question `id`, `name`, `kind`. Another question's, and anything that is not
    /// well-formed to its last byte, is an error.
    pub fn parse(message: &'m [u8], id: u16, name: &Name, kind: u16) -> Result<Self, Malformed> {
        let header = Header::parse(message)?;
        if header.id != id || header.flags & QR == 0 || header.flags & OPCODE != 0 {
            return Err(Malformed("an answer to something else"));
        }
        let mut response = Response {
            message,
            answers: Vec::new(),
            rest: Vec::new(),
            end: HEADER,
            code: header.flags.to_be_bytes()[1] & 0xf,
            truncated: header.flags & TC != 0,
        };
        let [questions, answers, authorities, additional] = header.counts;
        let mut at = HEADER;
        match questions {
            1 => {
                if question(message, &mut at)? != (name.clone(), kind, CLASS_IN) {
                    return Err(Malformed("an answer to another question"));
                }
            }
            // Some say so little when they did not understand.
            0 if response.code == FORMERR || response.code == NOTIMP => return Ok(response),
            _ => return Err(Malformed("not one question")),
        }
        response.end = at;
        if response.truncated {
            return Ok(response);
        }
        for _ in 0..answers {
            response.answers.push(Record::parse(message, &mut at)?);
        }
        response.end = at;
        for _ in 0..u32::from(authorities) + u32::from(additional) {
            let record = Record::parse(message, &mut at)?;
            if record.kind == OPT && record.ttl >> 24 != 0 {
                // The upper bits of the response code: none that says more than "failed".
                response.code = SERVFAIL;
            }
            response.rest.push(record);
        }
        if at != message.len() {
            return Err(Malformed("something behind the end"));
        }
        Ok(response)
    }

    /// Follows `name` to its addresses of type `kind` (A or AAAA). Records that do not belong to that chain are as if
    /// they were not there.
    pub fn chain(&self, name: &Name, kind: u16) -> Result<Chain, Malformed> {
        let mut chain = Chain::unfollowed();
        let ours = || {
            self.answers
                .iter()
                .filter(|record| record.class == CLASS_IN)
        };
        let mut last = name.clone();
        while let Some(record) = ours().find(|one| one.kind == CNAME && one.name == last) {
            if chain.names.len() == CHAIN_MOST {
                return Err(Malformed("a chain of names without end"));
            }
            let mut at = record.data_at;
            let target = Name::parse(self.message, &mut at)?;
            if at != record.data_at + record.data.len() {
                return Err(Malformed("something behind a name"));
            }
            chain.ttl = chain.ttl.min(record.ttl);
            chain.names.push((target.clone(), record.ttl));
            last = target;
        }
        for record in ours().filter(|one| one.kind == kind && one.name == last) {
            let address = match (kind, record.data.len()) {
                (A, 4) => record
                    .data
                    .first_chunk::<4>()
                    .map(|bytes| IpAddr::from(*bytes)),
                (AAAA, 16) => record
                    .data
                    .first_chunk::<16>()
                    .map(|bytes| IpAddr::from(*bytes)),
                _ => None,
            };
            let address = address.ok_or(Malformed("an address of the wrong length"))?;
            chain.ttl = chain.ttl.min(record.ttl);
            if chain.addresses.len() < ADDRESSES_MOST && !chain.addresses.contains(&address) {
                chain.addresses.push(address);
            }
        }
        Ok(chain)
    }

    /// For records of other types: its answers as they are, without what comes behind them. (Names in
    /// messages point backwards only, so nothing is missing.)
    pub fn answers_for(&self, query: &Query, room: usize) -> Vec<u8> {
        let answers = self.message.get(HEADER..self.end).unwrap_or_default();
        let mut answer = Answer::new(query, room);
        answer.code = self.code;
        // The question is a part of it, and all offsets stay when it has the same length.
        let same = answers
            .get(..query.question.len())
            .is_some_and(|question| question.eq_ignore_ascii_case(&query.question));
        if same && HEADER + answers.len() + answer.tail().len() <= room {
            answer.bytes = answers.to_vec();
            answer.count = u16::try_from(self.answers.len()).unwrap_or(u16::MAX);
        } else {
            answer.truncated = !self.answers.is_empty();
        }
        answer.finish()
    }

    /// For an application with policy accept: the whole message, with its own number; cut to `room`.
    pub fn whole_for(&self, query: &Query, room: usize) -> Vec<u8> {
        if self.message.len() > room || self.truncated {
            let mut answer = Answer::new(query, room);
            answer.truncated = true;
            return answer.finish();
        }
        let mut bytes = query.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.message.get(2..).unwrap_or_default());
        bytes
    }
}

/// An answer for an application.
pub struct Answer<'q> {
    query: &'q Query,
    room: usize,
    /// The response code.
    pub code: u8,
    /// Why there is nothing, for who speaks EDNS.
    pub why: Option<String>,
    /// More did not fit.
    pub truncated: bool,
    /// Question and records.
    bytes: Vec<u8>,
    count: u16,
}

impl<'q> Answer<'q> {
    /// An empty one, of at most `room` bytes.
    pub fn new(query: &'q Query, room: usize) -> Answer<'q> {
        Answer {
            query,
            room: room.min(MESSAGE_MOST),
            code: NOERROR,
            why: None,
            truncated: false,
            bytes: query.question.clone(),
            count: 0,
        }
    }

    /// The chain of names, then the addresses at its end that fit.
    pub fn add(&mut self, names: &[(Name, u32)], addresses: &[IpAddr], ttl: u32) {
        // The name of the question stands right behind the header.
        let mut owner = HEADER;
        for (target, ttl) in names {
            match self.record(owner, CNAME, *ttl, target.wire()) {
                Some(at) => owner = at,
                None => return,
            }
        }
        for address in addresses {
            let added = match address {
                IpAddr::V4(v4) => self.record(owner, A, ttl, &v4.octets()),
                IpAddr::V6(v6) => self.record(owner, AAAA, ttl, &v6.octets()),
            };
            if added.is_none() {
                return;
            }
        }
    }

    /// A name for the address that was asked about.
    pub fn add_pointer(&mut self, name: &Name, ttl: u32) {
        self.record(HEADER, PTR, ttl, name.wire());
    }

    /// How many records are in it.
    pub fn records(&self) -> usize {
        usize::from(self.count)
    }

    /// Adds a record; where its data begins, or none when it does not fit.
    fn record(&mut self, owner: usize, kind: u16, ttl: u32, data: &[u8]) -> Option<usize> {
        let length = HEADER + self.bytes.len() + 12 + data.len() + self.tail().len();
        let pointer = u16::try_from(owner).ok().filter(|owner| *owner < 0x4000);
        let (Some(pointer), true) = (pointer, length <= self.room && !self.truncated) else {
            self.truncated = true;
            return None;
        };
        self.bytes.extend((0xc000 | pointer).to_be_bytes());
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(CLASS_IN.to_be_bytes());
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes());
        let at = HEADER + self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.count += 1;
        Some(at)
    }

    /// The record of EDNS, for who speaks it.
    fn tail(&self) -> Vec<u8> {
        if self.query.edns.is_none() {
            return Vec::new();
        }
        let why = self.why.as_ref().map(|text| {
            let mut option = 15u16.to_be_bytes().to_vec();
            option.extend((text.len() as u16 + 2).to_be_bytes());
            option.extend(BLOCKED.to_be_bytes());
            option.extend_from_slice(text.as_bytes());
            option
        });
        let option = why.unwrap_or_default();
        let mut tail = vec![0];
        tail.extend(OPT.to_be_bytes());
        tail.extend((DATAGRAM as u16).to_be_bytes());
        tail.extend(0u32.to_be_bytes());
        tail.extend((option.len() as u16).to_be_bytes());
        tail.extend(option);
        tail
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        let tail = self.tail();
        let mut flags = QR | RA | self.query.flags | u16::from(self.code);
        if self.truncated {
            flags |= TC;
        }
        let counts = [1, self.count, 0, u16::from(!tail.is_empty())];
        let mut bytes = head(self.query.id, flags, counts);
        bytes.extend(self.bytes);
        bytes.extend(tail);
        bytes
    }
}

/// A question to a name server.
pub fn ask(id: u16, name: &Name, kind: u16, edns: bool) -> Vec<u8> {
    let mut bytes = head(id, RD, [1, 0, 0, u16::from(edns)]);
    bytes.extend_from_slice(name.wire());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    if edns {
        bytes.push(0);
        bytes.extend(OPT.to_be_bytes());
        bytes.extend((DATAGRAM as u16).to_be_bytes());
        bytes.extend([0; 6]);
    }
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(*word.first_chunk()?))
}

mod told;

#[cfg(test)]
mod tests;
