//! The shape of the program: architecture, then for each interface a binary tree over ranges of
//! system call numbers, then the comparisons of arguments.
//!
//! The native interface comes first and has the shortest way. An interface with the audit number
//! of the native one is a single leaf of its tree; the others come after another comparison.

use super::Arch;
use super::assembler::{Assembler, If, Label};
use super::interface::{self, Leaf, Range};
use super::rules::{Condition, Profile, Rule, Test, ret};
use seccompiler::sock_filter;

// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Lay out a profile.
pub(super) fn generate(profile: &Profile, arch: &Arch) -> Vec<sock_filter> {
    let exceptions: Vec<_> = arch
        .interfaces
        .iter()
        .zip(profile.listed)
        .map(|(interface, listed)| match listed {
            true => interface::exceptions(profile, arch, interface),
            false => Vec::new(),
        })
        .collect();
    let mut tree = Tree {
        assembler: Assembler::default(),
        default: profile.default,
        narrow: false,
        rules: vec![],
    };
    let native = &arch.interfaces[0];
    let mut ranges = interface::ranges(profile, &exceptions[0], arch, 0);
    let mut siblings = Vec::new();
    for (index, other) in arch.interfaces.iter().enumerate().skip(1) {
        let label = profile.listed[index].then(|| {
            let ranges = interface::ranges(profile, &exceptions[index], arch, index);
            tree.interface(&ranges, other.narrow)
        });
        if other.audit == native.audit {
            let leaf = label.map_or(Leaf::Return(ret::KILL_PROCESS), Leaf::Tree);
            interface::add(&mut ranges, other.bit, leaf);
            // -1 is how a debugger says "no call"; it belongs to no interface.
            interface::add(&mut ranges, u32::MAX, Leaf::Return(profile.default));
        } else if let Some(label) = label {
            siblings.push((other.audit, tree.assembler.load(NUMBER, label)));
        }
    }
    let start = tree.interface(&ranges, native.narrow);
    dispatch(tree.assembler, native.audit, start, &siblings)
}

/// The beginning: which architecture is it? `native` goes on with the number, which `siblings`
/// have loaded themselves.
fn dispatch(
    mut assembler: Assembler,
    audit: u32,
    native: Label,
    siblings: &[(u32, Label)],
) -> Vec<sock_filter> {
    let native = assembler.load(NUMBER, native);
    let mut other = assembler.ret(ret::KILL_PROCESS);
    for (audit, label) in siblings {
        other = assembler.branch(If::Equal, *audit, *label, other);
    }
    let start = assembler.branch(If::Equal, audit, native, other);
    assembler.load(ARCH, start);
    assembler.finish()
}

struct Tree<'a> {
    assembler: Assembler,
    default: u32,
    /// Only the lower halves of arguments count (see [`super::arch::Interface`]).
    narrow: bool,
    /// Comparisons that have a place already, and whether they are narrow; calls with the same
    /// rules share them.
    rules: Vec<(&'a [Rule], bool, Label)>,
}

impl<'a> Tree<'a> {
    /// Decide on a call of one interface, whose number is loaded.
    fn interface(&mut self, ranges: &[Range<'a>], narrow: bool) -> Label {
        self.narrow = narrow;
        self.branch(ranges)
    }

    /// Decide on the loaded number, which is in one of the ranges.
    fn branch(&mut self, ranges: &[Range<'a>]) -> Label {
        match ranges {
            [only] => self.leaf(only.leaf),
            // A single number inside of a range: one comparison instead of two.
            [around, one, after] if around.leaf == after.leaf && one.start + 1 == after.start => {
                let no = self.leaf(around.leaf);
                let yes = self.leaf(one.leaf);
                self.assembler.branch(If::Equal, one.start, yes, no)
            }
            _ => {
                let middle = ranges.len() / 2;
                let yes = self.branch(&ranges[middle..]);
                let no = self.branch(&ranges[..middle]);
                self.assembler
                    .branch(If::GreaterOrEqual, ranges[middle].start, yes, no)
            }
        }
    }

    fn leaf(&mut self, leaf: Leaf<'a>) -> Label {
        match leaf {
            Leaf::Return(value) => self.assembler.ret(value),
            Leaf::Tree(label) => label,
            Leaf::Rules(rules) => {
                let known = |(known, narrow, _): &&(&[Rule], bool, Label)| {
                    *narrow == self.narrow && *known == rules
                };
                match self.rules.iter().find(known) {
                    Some((_, _, label)) => *label,
                    None => {
                        let label = self.rules(rules);
                        self.rules.push((rules, self.narrow, label));
                        label
                    }
                }
            }
        }
    }

    /// The first rule whose conditions all hold.
    fn rules(&mut self, rules: &[Rule]) -> Label {
        let mut otherwise = self.assembler.ret(self.default);
        for rule in rules.iter().rev() {
            let mut then = self.assembler.ret(rule.action);
            for condition in rule.conditions.iter().rev() {
                then = self.condition(*condition, then, otherwise);
            }
            otherwise = then;
        }
        otherwise
    }

    fn condition(&mut self, condition: Condition, then: Label, otherwise: Label) -> Label {
        let low = ARGUMENTS + 8 * u32::from(condition.argument);
        let order = |negate: bool| {
            if negate {
                (otherwise, then)
            } else {
                (then, otherwise)
            }
        };
        match condition.test {
            Test::Masked {
                mask,
                value,
                negate,
            } => {
                let (yes, no) = order(negate);
                if self.narrow && mask as u32 == 0 {
                    // Only bits that such an argument does not have.
                    return if value == 0 { yes } else { no };
                }
                let mask = if self.narrow {
                    mask & u64::from(u32::MAX)
                } else {
                    mask
                };
                let next = self.word(low, mask as u32, value as u32, yes, no);
                self.word(low + 4, (mask >> 32) as u32, (value >> 32) as u32, next, no)
            }
            Test::Greater { value, negate } => {
                let (yes, no) = order(negate);
                self.ordered(If::Greater, low, value, yes, no)
            }
            Test::GreaterOrEqual { value, negate } => {
                let (yes, no) = order(negate);
                self.ordered(If::GreaterOrEqual, low, value, yes, no)
            }
        }
    }

    /// Compare some bits of one half of an argument.
    fn word(&mut self, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        if mask == 0 {
            return yes;
        }
        let test = self.assembler.branch(If::Equal, value, yes, no);
        let test = if mask == u32::MAX {
            test
        } else {
            self.assembler.and(mask, test)
        };
        self.assembler.load(offset, test)
    }

    /// `>` or `>=` of 64 bits: the upper half decides unless it is equal.
    fn ordered(&mut self, test: If, low: u32, value: u64, yes: Label, no: Label) -> Label {
        let upper = (value >> 32) as u32;
        let lower = self.assembler.branch(test, value as u32, yes, no);
        let lower = self.assembler.load(low, lower);
        if self.narrow {
            return lower;
        }
        let equal = self.assembler.branch(If::Equal, upper, lower, no);
        let greater = self.assembler.branch(If::Greater, upper, yes, equal);
        self.assembler.load(low + 4, greater)
    }
}
