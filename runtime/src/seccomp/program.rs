//! The shape of the program: architecture, then a binary tree over ranges of system call numbers,
//! then the comparisons of arguments.

use super::Arch;
use super::assembler::{Assembler, If, Label};
use super::rules::{Condition, Decision, Profile, Rule, Test, ret};
use seccompiler::sock_filter;

// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What the leaves of the tree do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf<'a> {
    Return(u32),
    Rules(&'a [Rule]),
}

/// Numbers from `start` up to the next range.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    start: u32,
    leaf: Leaf<'a>,
}

/// Lay out a profile.
pub(super) fn generate(profile: &Profile, arch: &Arch) -> Vec<sock_filter> {
    let ranges = ranges(profile, arch);
    let mut tree = Tree {
        assembler: Assembler::default(),
        default: profile.default,
        rules: vec![],
    };
    let native = tree.branch(&ranges);
    let mut assembler = tree.assembler;
    let native = assembler.load(NUMBER, native);
    let mut other = assembler.ret(ret::KILL_PROCESS);
    for (audit, value) in &profile.siblings {
        let value = assembler.ret(*value);
        other = assembler.branch(If::Equal, *audit, value, other);
    }
    let start = assembler.branch(If::Equal, arch.audit, native, other);
    assembler.load(ARCH, start);
    assembler.finish()
}

/// The whole space of numbers as ranges with different leaves.
fn ranges<'a>(profile: &'a Profile, arch: &Arch) -> Vec<Range<'a>> {
    let mut ranges: Vec<Range<'a>> = Vec::new();
    let mut add = |start: u32, leaf: Leaf<'a>| {
        if ranges.last().is_none_or(|last| last.leaf != leaf) {
            ranges.push(Range { start, leaf });
        }
    };
    let mut next = 0;
    for decision in &profile.calls {
        add(
            next,
            match decision {
                Decision::Default => Leaf::Return(profile.default),
                Decision::Always(value) => Leaf::Return(*value),
                Decision::ByArguments(rules) => Leaf::Rules(rules),
            },
        );
        next += 1;
    }
    add(next, Leaf::Return(profile.default));
    if let Some((_, bit)) = arch.second {
        add(bit, Leaf::Return(profile.second));
        // -1 is how a debugger says "no call"; it belongs to no interface.
        add(u32::MAX, Leaf::Return(profile.default));
    }
    ranges
}

struct Tree<'a> {
    assembler: Assembler,
    default: u32,
    /// Comparisons that have a place already; calls with the same rules share them.
    rules: Vec<(&'a [Rule], Label)>,
}

impl<'a> Tree<'a> {
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
            Leaf::Rules(rules) => match self.rules.iter().find(|(known, _)| *known == rules) {
                Some((_, label)) => *label,
                None => {
                    let label = self.rules(rules);
                    self.rules.push((rules, label));
                    label
                }
            },
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
        let equal = self.assembler.branch(If::Equal, upper, lower, no);
        let greater = self.assembler.branch(If::Greater, upper, yes, equal);
        self.assembler.load(low + 4, greater)
    }
}
