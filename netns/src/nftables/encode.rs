//! A [`Ruleset`] as netlink messages of one transaction.

mod expressions;

pub(super) use expressions::expressions;

use super::words::octets;
use super::{Chain, Element, Key, Kind, Ruleset, Set, Shape, TABLE};
use crate::netlink::{
    HEADER, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, Netlink, Refusal,
};

pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
pub(super) const NEW_ELEMENTS: u16 = 12;
const DEL_ELEMENTS: u16 = 14;
/// `NFPROTO_INET`, `NFPROTO_UNSPEC`.
pub(super) const INET: u8 = 1;
const UNSPEC: u8 = 0;

const SET_INTERVAL: u32 = 0x4;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const SET_CONCAT: u32 = 0x80;

/// An attribute holds at most 64 KiB, a list of elements is one attribute.
pub(super) const ELEMENTS_PER_MESSAGE: usize = 400;

/// Attributes, one after the other.
#[derive(Default)]
pub(super) struct Attrs(pub Vec<u8>);

impl Attrs {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        // Lengths: callers keep values far below 64 KiB (ELEMENTS_PER_MESSAGE).
        let length = (value.len() + 4) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(kind | 0x8000).to_ne_bytes());
        fill(self);
        let length = (self.0.len() - start) as u16;
        if let Some(field) = self.0.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// `NFTA_DATA_VALUE` in `kind`.
    pub(super) fn data(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |data| data.bytes(1, value));
    }
}

/// Appends one message; returns where it begins.
pub(super) fn message(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    family: u8,
    seq: u32,
    attrs: &[u8],
) {
    let length = (HEADER + 4 + attrs.len()) as u32;
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    out.extend_from_slice(&seq.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    // struct nfgenmsg: family, version 0, resource (the subsystem in batch messages).
    let resource = if kind == BATCH_BEGIN || kind == BATCH_END {
        SUBSYSTEM
    } else {
        0
    };
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    out.extend_from_slice(attrs);
}

/// One transaction: all of it or nothing.
pub(crate) struct Batch<'a> {
    socket: &'a mut Netlink,
    bytes: Vec<u8>,
    /// Where the last message starts and its number: it carries the request for an acknowledgement.
    last: (usize, u32),
    /// What each message is about, for errors.
    subjects: Vec<(u32, String)>,
}

impl<'a> Batch<'a> {
    pub fn new(socket: &'a mut Netlink) -> Batch<'a> {
        let mut bytes = Vec::with_capacity(8192);
        let seq = socket.next_seq();
        message(&mut bytes, BATCH_BEGIN, 0, UNSPEC, seq, &[]);
        Batch {
            socket,
            bytes,
            last: (0, seq),
            subjects: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, kind: u16, flags: u16, attrs: &Attrs, subject: String) {
        let seq = self.socket.next_seq();
        self.last = (self.bytes.len(), seq);
        message(
            &mut self.bytes,
            SUBSYSTEM << 8 | kind,
            flags,
            INET,
            seq,
            &attrs.0,
        );
        self.subjects.push((seq, subject));
    }

    pub fn delete_table(&mut self) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        self.push(DEL_TABLE, 0, &attrs, format!("delete table {TABLE}"));
    }

    /// Adds a whole table; refused when it exists.
    pub fn add(&mut self, ruleset: &Ruleset) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        self.push(
            NEW_TABLE,
            NLM_F_CREATE | NLM_F_EXCL,
            &attrs,
            format!("table {TABLE}"),
        );
        for (index, set) in ruleset.sets.iter().enumerate() {
            self.set(set, index as u32 + 1);
            self.elements(set, &set.elements);
        }
        for (map, id) in ruleset.maps.iter().zip(ruleset.sets.len() as u32 + 1..) {
            self.map(map, id);
        }
        for chain in &ruleset.chains {
            self.chain(chain);
        }
        for chain in &ruleset.chains {
            self.rules(chain);
        }
    }

    /// Appends the rules of a chain that is there.
    pub(super) fn rules(&mut self, chain: &Chain) {
        for rule in &chain.rules {
            let mut attrs = Attrs::default();
            attrs.string(1, TABLE);
            attrs.string(2, &chain.name);
            attrs.nested(4, |list| expressions(list, rule));
            self.push(
                NEW_RULE,
                NLM_F_CREATE | NLM_F_APPEND,
                &attrs,
                format!("{}: {rule}", chain.name),
            );
        }
    }

    pub(super) fn set(&mut self, set: &Set, id: u32) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        attrs.string(2, &set.name);
        attrs.u32(3, set_flags(set.kind));
        attrs.u32(4, set.shape.key_type());
        attrs.u32(5, set.shape.key_length());
        attrs.u32(10, id);
        match set.kind {
            Kind::Hash | Kind::Timed { interval: false } => {}
            Kind::Interval | Kind::Timed { interval: true } => attrs.nested(9, |desc| {
                desc.nested(2, |fields| {
                    for length in set.shape.fields() {
                        fields.nested(1, |field| field.u32(1, *length));
                    }
                });
            }),
            Kind::Dynamic { timeout, size } => {
                if let Some(size) = size {
                    attrs.nested(9, |desc| desc.u32(1, size));
                }
                attrs.u64(11, timeout);
            }
        }
        if !matches!(set.kind, Kind::Dynamic { .. }) {
            // Every element counts its packets.
            attrs.nested(17, |expr| expr.string(1, "counter"));
        }
        self.push(NEW_SET, NLM_F_CREATE, &attrs, format!("set {}", set.name));
    }

    /// Adds elements to a set, of this transaction or live. Equal ones stay as they are, with their counters.
    pub fn elements(&mut self, set: &Set, elements: &[Element]) {
        let extra = Extra::default();
        self.change(NEW_ELEMENTS, NLM_F_CREATE, set, elements, &extra);
    }

    /// Adds elements that vanish after `life` milliseconds to a set with times. Since Linux 6.12 those that
    /// are there already get the new time and keep their counters; before, they stay as they are.
    pub fn timed_elements(&mut self, set: &Set, elements: &[Element], life: u64) {
        let extra = Extra {
            life: Some(life),
            packets: None,
        };
        self.change(NEW_ELEMENTS, NLM_F_CREATE, set, elements, &extra);
    }

    /// One element anew, in place of an equal one that is there: with another time, and with the packets
    /// that were counted so far.
    pub fn replace_element(&mut self, set: &Set, element: &Element, life: u64, packets: u64) {
        let one = std::slice::from_ref(element);
        self.change(DEL_ELEMENTS, 0, set, one, &Extra::default());
        let extra = Extra {
            life: Some(life),
            packets: Some(packets),
        };
        self.change(NEW_ELEMENTS, NLM_F_CREATE, set, one, &extra);
    }

    /// Removes elements; one that is not there makes the whole transaction fail.
    pub fn remove_elements(&mut self, set: &Set, elements: &[Element]) {
        self.change(DEL_ELEMENTS, 0, set, elements, &Extra::default());
    }

    fn change(&mut self, kind: u16, flags: u16, set: &Set, elements: &[Element], extra: &Extra) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let mut attrs = Attrs::default();
            attrs.string(1, TABLE);
            attrs.string(2, &set.name);
            attrs.nested(3, |list| element_list(list, set, chunk, extra));
            let subject = format!("elements of set {}", set.name);
            self.push(kind, flags, &attrs, subject);
        }
    }

    pub(super) fn chain(&mut self, chain: &Chain) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        attrs.string(3, &chain.name);
        if let Some(hook) = chain.hook {
            attrs.nested(4, |inner| {
                inner.u32(1, hook.at as u32);
                inner.bytes(2, &hook.priority.to_be_bytes());
            });
            attrs.u32(5, if hook.drop { 0 } else { 1 });
            attrs.string(7, hook.kind);
        }
        self.push(
            NEW_CHAIN,
            NLM_F_CREATE,
            &attrs,
            format!("chain {}", chain.name),
        );
    }

    /// Sends the transaction. On refusal nothing of it is in force, and `detail` says which part was refused.
    pub fn commit(mut self) -> Result<(), Refusal> {
        let (start, last) = self.last;
        if let Some(flags) = self.bytes.get_mut(start + 6) {
            *flags |= NLM_F_ACK as u8;
        }
        let end = self.socket.next_seq();
        message(&mut self.bytes, BATCH_END, 0, UNSPEC, end, &[]);
        let subjects = self.subjects;
        self.socket
            .transact(&self.bytes, last, |_, _| {})
            .map_err(|mut refusal| {
                if let Some((_, subject)) = subjects.iter().find(|(seq, _)| *seq == refusal.seq) {
                    let words = std::mem::take(&mut refusal.detail);
                    refusal.detail = if words.is_empty() {
                        subject.clone()
                    } else {
                        format!("{subject}: {words}")
                    };
                }
                refusal
            })
    }
}

/// Loads `ruleset` as a new table.
pub(crate) fn load(socket: &mut Netlink, ruleset: &Ruleset) -> Result<(), Refusal> {
    let mut batch = Batch::new(socket);
    batch.add(ruleset);
    batch.commit()
}

/// Removes the table; it is no error when there is none.
pub(crate) fn remove_table(socket: &mut Netlink) -> Result<(), Refusal> {
    let mut batch = Batch::new(socket);
    batch.delete_table();
    match batch.commit() {
        Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// `NFTA_SET_FLAGS`.
pub(super) fn set_flags(kind: Kind) -> u32 {
    match kind {
        Kind::Hash => 0,
        Kind::Interval => SET_INTERVAL | SET_CONCAT,
        Kind::Timed { interval: false } => SET_TIMEOUT,
        Kind::Timed { interval: true } => SET_INTERVAL | SET_CONCAT | SET_TIMEOUT,
        Kind::Dynamic { .. } => SET_EVAL | SET_TIMEOUT,
    }
}

/// A key as it stands in the registers.
pub(super) fn key(key: &Key, shape: Shape) -> Vec<u8> {
    let mut bytes = octets(&key.address);
    match shape {
        Shape::Address(_) => {}
        Shape::Service(_) => {
            bytes.extend_from_slice(&[key.middle.to_le_bytes()[0], 0, 0, 0]);
            bytes.extend_from_slice(&key.port.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
        }
        Shape::Flow(_) => {
            bytes.extend_from_slice(&key.middle.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&key.port.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
        }
    }
    bytes
}

/// User data as libnftnl lays it out (type 0: comment), so that `nft list` shows it.
pub(super) fn comment(text: &str) -> Option<Vec<u8>> {
    let text = shown_comment(text);
    if text.is_empty() {
        return None;
    }
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    Some(bytes)
}

/// As much of `text` as fits into a comment: the kernel stores 128 bytes.
pub(crate) fn shown_comment(text: &str) -> &str {
    let mut end = text.len().min(120);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// What elements have besides key and comment.
#[derive(Default)]
pub(super) struct Extra {
    /// Milliseconds until they vanish.
    life: Option<u64>,
    /// What their counters begin with.
    packets: Option<u64>,
}

pub(super) fn element_list(list: &mut Attrs, set: &Set, elements: &[Element], extra: &Extra) {
    for element in elements {
        list.nested(1, |one| {
            one.data(1, &key(&element.first, set.shape));
            if set.kind.is_interval() {
                one.data(10, &key(&element.last, set.shape));
            }
            if let Some(comment) = comment(&element.comment) {
                one.bytes(6, &comment);
            }
            if let Some(life) = extra.life {
                one.u64(4, life);
                one.u64(5, life);
            }
            if let Some(packets) = extra.packets {
                one.nested(7, |expr| {
                    expr.string(1, "counter");
                    expr.nested(2, |data| {
                        data.u64(1, 0);
                        data.u64(2, packets);
                    });
                });
            }
        });
    }
}
