//! A profile as one interface of the architecture sees it: ranges of its system call numbers.

use super::Arch;
use super::arch::{GAP, Interface, Multiplexer, Segment};
use super::assembler::Label;
use super::rules::{Condition, Decision, Profile, Rule, Test, denies, ret, sort_by_strictness};

const ENOSYS: u32 = 38;

/// What the leaves of the tree do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf<'a> {
    Return(u32),
    Rules(&'a [Rule]),
    /// Another tree, which is made already.
    Tree(Label),
}

/// Numbers from `start` up to the next range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range<'a> {
    pub start: u32,
    pub leaf: Leaf<'a>,
}

/// Decisions of an interface that differ from the profile's, by row.
pub(super) type Exceptions = Vec<(usize, Decision)>;

/// The decisions on calls whose arguments are not where the profile looks for them.
pub(super) fn exceptions(profile: &Profile, arch: &Arch, interface: &Interface) -> Exceptions {
    let indirect = interface.indirect.iter().filter_map(|name| {
        let row = arch.row(name)?;
        Some((row, profile.unseen(&profile.calls[row])))
    });
    let multiplexers = interface.multiplexers.iter().filter_map(|multiplexer| {
        let row = arch.row(multiplexer.name)?;
        Some((row, demultiplexed(profile, arch, multiplexer, row)))
    });
    indirect.chain(multiplexers).collect()
}

/// The rules for a call that stands for others: its own, and those for the others.
fn demultiplexed(
    profile: &Profile,
    arch: &Arch,
    multiplexer: &Multiplexer,
    row: usize,
) -> Decision {
    let mut rules = match &profile.calls[row] {
        Decision::Default => Vec::new(),
        Decision::ByArguments(rules) => rules.clone(),
        own @ Decision::Always(_) => return own.clone(),
    };
    for (name, value) in multiplexer.members {
        let member = arch.row(name).map(|row| &profile.calls[row]);
        if let Some(Decision::Always(action)) = member.map(|decision| profile.unseen(decision)) {
            let test = Test::Masked {
                mask: multiplexer.mask,
                value: *value,
                negate: false,
            };
            let conditions = vec![Condition { argument: 0, test }];
            rules.push(Rule { conditions, action });
        }
    }
    if rules.is_empty() {
        return Decision::Default;
    }
    let mut decision = Decision::ByArguments(rules);
    sort_by_strictness(&mut decision);
    decision
}

/// All numbers of an interface, from its `bit` on, as ranges with different leaves.
pub(super) fn ranges<'a>(
    profile: &'a Profile,
    exceptions: &'a Exceptions,
    arch: &Arch,
    index: usize,
) -> Vec<Range<'a>> {
    let interface = &arch.interfaces[index];
    // Number as in a table, without the bit.
    let undecided = |number: u32| {
        let newer = i64::from(number) > i64::from(profile.largest[index]);
        Leaf::Return(if newer && profile.largest[index] >= 0 {
            profile.newer
        } else {
            profile.default
        })
    };
    let decided = |number: u32, row: usize| {
        let exception = exceptions.iter().find(|(known, _)| *known == row);
        match exception.map_or(&profile.calls[row], |(_, decision)| decision) {
            Decision::Default => undecided(number),
            Decision::Always(value) => Leaf::Return(*value),
            Decision::ByArguments(rules) => Leaf::Rules(rules),
        }
    };
    let gap = |segment: &Segment, number: u32| {
        if segment.closed && !denies(profile.default) {
            Leaf::Return(ret::ERRNO | ENOSYS)
        } else {
            undecided(number)
        }
    };
    let mut ranges = Vec::with_capacity(256);
    for segment in interface.segments {
        let mut number = segment.first;
        for row in segment.rows {
            let leaf = match *row {
                GAP => gap(segment, number),
                row => decided(number, usize::from(row)),
            };
            add(&mut ranges, interface.bit | number, leaf);
            number += 1;
        }
        add(&mut ranges, interface.bit | number, undecided(number));
    }
    ranges
}

/// Go on with `leaf` from `start` on.
pub(super) fn add<'a>(ranges: &mut Vec<Range<'a>>, start: u32, leaf: Leaf<'a>) {
    if ranges.last().is_none_or(|last| last.leaf != leaf) {
        ranges.push(Range { start, leaf });
    }
}
