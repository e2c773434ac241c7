//! Classic BPF instructions, put together from the end: every jump goes forward, so when a jump
//! is made its targets have their place already, and offsets that do not fit into eight bits are
//! seen at once.

use seccompiler::sock_filter;

// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// The conditional jumps.
#[derive(Debug, Clone, Copy)]
pub(super) enum If {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// An instruction's place, counted from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program under construction.
#[derive(Default)]
pub(super) struct Assembler {
    /// The last instruction comes first.
    reversed: Vec<sock_filter>,
    /// For each return value the place nearest to the beginning.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How many instructions a jump made now would skip.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - to.0 - 1
    }

    /// End with a value. An equal instruction is used again.
    pub fn ret(&mut self, value: u32) -> Label {
        match self.returns.iter().find(|(known, _)| *known == value) {
            Some((_, label)) => *label,
            None => self.new_ret(value),
        }
    }

    fn new_ret(&mut self, value: u32) -> Label {
        let label = self.push(RETURN, 0, 0, value);
        match self.returns.iter_mut().find(|(known, _)| *known == value) {
            Some((_, place)) => *place = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    /// Load a word of `struct seccomp_data` and go on at `next`.
    pub fn load(&mut self, offset: u32, next: Label) -> Label {
        self.follow(next);
        self.push(LOAD_WORD, 0, 0, offset)
    }

    /// Keep some bits of the loaded word and go on at `next`.
    pub fn and(&mut self, mask: u32, next: Label) -> Label {
        self.follow(next);
        self.push(AND, 0, 0, mask)
    }

    /// Compare the loaded word with `k`.
    pub fn branch(&mut self, test: If, k: u32, yes: Label, no: Label) -> Label {
        let (mut yes, mut no) = (yes, no);
        loop {
            let (to_yes, to_no) = (self.distance(yes), self.distance(no));
            match (u8::try_from(to_yes), u8::try_from(to_no)) {
                (Ok(jt), Ok(jf)) => return self.push(test as u16, jt, jf, k),
                (Err(_), _) => yes = self.nearer(yes),
                (_, Err(_)) => no = self.nearer(no),
            }
        }
    }

    /// Make `next` the instruction that comes after the one made next.
    fn follow(&mut self, next: Label) {
        if self.distance(next) > 0 {
            self.nearer(next);
        }
    }

    /// A place right here that leads to a far one.
    fn nearer(&mut self, to: Label) -> Label {
        let target = &self.reversed[to.0];
        if target.code == RETURN {
            let value = target.k;
            return self.new_ret(value);
        }
        // A program of more than 2^32 instructions would not fit into memory.
        let distance = self.distance(to) as u32;
        self.push(JUMP, 0, 0, distance)
    }

    /// The finished program; its first instruction is the one made last.
    pub fn finish(mut self) -> Vec<sock_filter> {
        self.reversed.reverse();
        self.reversed
    }
}
