//! A section evaluated rule by rule for one call, without tables by number, ranges and trees.

use super::*;
use oci_spec::runtime::LinuxSeccompArg;

/// What a section says of the calls of one interface.
struct Reading<'a> {
    section: &'a LinuxSeccomp,
    index: usize,
    default: u32,
    largest: i32,
}

impl<'a> Reading<'a> {
    fn new(section: &'a LinuxSeccomp, index: usize) -> Self {
        let number_of = |name: &String| {
            let call = X86_64.calls.iter().find(|(known, _)| known == name);
            call.map_or(-1, |(_, numbers)| numbers[index])
        };
        let named = section.syscalls().iter().flatten().flat_map(|r| r.names());
        Self {
            section,
            index,
            default: value(section.default_action(), section.default_errno_ret()),
            largest: named.map(number_of).max().unwrap_or(-1),
        }
    }

    /// Return values for calls with a number, which is without the interface's bit.
    fn expected(&self, number: u32, samples: &[[u64; 6]]) -> Vec<u32> {
        let interface = &X86_64.interfaces[self.index];
        let default = self.default;
        let denies = strictness(default) <= strictness(ret::ERRNO);
        let newer = self.largest >= 0 && i64::from(number) > i64::from(self.largest);
        let otherwise = match denies {
            true if newer => ENOSYS,
            false if is_closed(self.index, number) => ENOSYS,
            _ => default,
        };
        let is_call = |(_, numbers): &&(&str, [i32; 3])| numbers[self.index] == number as i32;
        let Some((name, _)) = X86_64.calls.iter().find(is_call) else {
            return vec![otherwise; samples.len()];
        };
        let rules = rules_for(self.section, name);
        if interface.indirect.contains(name) {
            return vec![unseen(&rules, default).unwrap_or(otherwise); samples.len()];
        }
        let multiplexer = interface.multiplexers.iter().find(|m| m.name == *name);
        let of_members: Vec<(u64, u64, u32)> = multiplexer
            .filter(|_| unconditional(&rules, default).is_none())
            .iter()
            .flat_map(|m| m.members.iter().map(|(name, value)| (m.mask, name, *value)))
            .filter_map(|(mask, name, value)| {
                let member = unseen(&rules_for(self.section, name), default)?;
                Some((mask, value, member))
            })
            .collect();
        let decide = |args: &[u64; 6]| {
            let member = of_members.iter().find(|m| args[0] & m.0 == m.1);
            matching(&rules, default, *args, interface.narrow)
                .into_iter()
                .chain(member.map(|m| m.2))
                .min_by_key(|value| strictness(*value))
                .unwrap_or(otherwise)
        };
        samples.iter().map(decide).collect()
    }
}

/// Numbers at which old kernels have a call of the other interface with the same audit number.
fn is_closed(index: usize, number: u32) -> bool {
    let has = |interface: usize| {
        let numbers = X86_64.calls.iter().map(|(_, numbers)| numbers[interface]);
        numbers.into_iter().any(|n| n == number.cast_signed())
    };
    match index {
        0 => (512..=547).contains(&number),
        2 => (number <= 334 || (512..=547).contains(&number)) && !has(2),
        _ => false,
    }
}

fn value(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::ScmpActErrno => ret::ERRNO | errno.unwrap_or(1),
        Action::ScmpActTrace => ret::TRACE | errno.unwrap_or(1),
        Action::ScmpActKill | Action::ScmpActKillThread => ret::KILL_THREAD,
        Action::ScmpActKillProcess => ret::KILL_PROCESS,
        Action::ScmpActTrap => ret::TRAP,
        Action::ScmpActLog => ret::LOG,
        Action::ScmpActAllow => ret::ALLOW,
        Action::ScmpActNotify => 0x7fc0_0000,
    }
}

fn rules_for<'a>(section: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
    let rules = section.syscalls().iter().flatten();
    rules
        .filter(|rule| rule.names().iter().any(|n| n == name))
        .collect()
}

fn conditions(rule: &LinuxSyscall) -> &[LinuxSeccompArg] {
    rule.args().as_deref().unwrap_or_default()
}

/// Counts whatever other rules say.
fn unconditional(rules: &[&LinuxSyscall], default: u32) -> Option<u32> {
    let plain = rules.iter().filter(|rule| conditions(rule).is_empty());
    plain
        .map(|rule| value(rule.action(), rule.errno_ret()))
        .find(|value| *value != default)
}

/// Without knowing the arguments.
fn unseen(rules: &[&LinuxSyscall], default: u32) -> Option<u32> {
    unconditional(rules, default).or_else(|| {
        let values = rules.iter().map(|r| value(r.action(), r.errno_ret()));
        values
            .min_by_key(|value| strictness(*value))
            .filter(|value| strictness(*value) < strictness(default))
    })
}

fn matching(rules: &[&LinuxSyscall], default: u32, args: [u64; 6], narrow: bool) -> Option<u32> {
    let holds = |c: &LinuxSeccompArg| {
        let cut = |n: u64| if narrow { n & 0xffff_ffff } else { n };
        let (x, v) = (cut(args[c.index()]), cut(c.value()));
        match c.op() {
            Operator::ScmpCmpNe => x != v,
            Operator::ScmpCmpLt => x < v,
            Operator::ScmpCmpLe => x <= v,
            Operator::ScmpCmpEq => x == v,
            Operator::ScmpCmpGe => x >= v,
            Operator::ScmpCmpGt => x > v,
            Operator::ScmpCmpMaskedEq => {
                let wanted = c.value_two().unwrap_or(0) & c.value();
                if v == 0 {
                    wanted == 0
                } else {
                    x & v == cut(wanted)
                }
            }
        }
    };
    let matches = |rule: &&&LinuxSyscall| {
        let conditions = conditions(rule);
        let mut indexes: Vec<_> = conditions.iter().map(|c| c.index()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        if indexes.len() < conditions.len() {
            conditions.iter().any(holds)
        } else {
            conditions.iter().all(holds)
        }
    };
    unconditional(rules, default).or_else(|| {
        let matching = rules.iter().filter(matches);
        matching
            .map(|rule| value(rule.action(), rule.errno_ret()))
            .filter(|value| *value != default)
            .min_by_key(|value| strictness(*value))
    })
}

fn strictness(value: u32) -> i32 {
    (value & 0xffff_0000).cast_signed()
}

/// Argument values around everything that a section compares with.
pub(super) fn interesting(section: &LinuxSeccomp) -> Vec<u64> {
    let mut values = vec![0, 1, u64::MAX, u64::MAX / 2, 1 << 32, u64::from(u32::MAX)];
    for arg in section
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|r| r.args().iter().flatten())
    {
        for v in [arg.value(), arg.value_two().unwrap_or(0)] {
            values.extend([
                v,
                v.wrapping_add(1),
                v.wrapping_sub(1),
                !v,
                v ^ 1 << 32,
                v << 32,
            ]);
            values.extend([v & 0xffff_ffff, v | 1 << 63, v >> 32]);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Arguments to try a call with: every value in one position, beside changing values in the
/// others, and alone.
pub(super) fn samples(values: &[u64], number: u32) -> Vec<[u64; 6]> {
    let mut samples = vec![[0; 6], [u64::MAX; 6]];
    for n in 0..values.len().clamp(12, 500) {
        let pick = |k: usize| values[(number as usize * 31 + n + k * 13) % values.len()];
        samples.push(std::array::from_fn(pick));
        let mut alone = [0; 6];
        alone[n % 6] = pick(0);
        samples.push(alone);
    }
    samples
}

/// Whether the arguments matter to what the section says of a call.
fn depends(section: &LinuxSeccomp, interface: &Interface, name: &str) -> bool {
    interface.multiplexers.iter().any(|m| m.name == name)
        || rules_for(section, name)
            .iter()
            .any(|r| !conditions(r).is_empty())
}

/// The program and the plain evaluation agree on all numbers and on many arguments, for all
/// interfaces that the section lists; the others are killed.
pub(super) fn agree(section: &LinuxSeccomp) -> Result<(), String> {
    let program = compile(section, &X86_64)
        .map_err(|e| e.to_string())?
        .instructions;
    let mut values = interesting(section);
    values.extend(2..25);
    let listed = section.architectures().as_deref().unwrap_or_default();
    for (index, interface) in X86_64.interfaces.iter().enumerate() {
        let is_listed = index == 0 || listed.contains(&interface.oci);
        let reading = Reading::new(section, index);
        for number in (0..600).chain([X32 - 1]) {
            let is_call = |(_, numbers): &&(&str, [i32; 3])| numbers[index] == number as i32;
            let call = X86_64.calls.iter().find(is_call);
            let samples = match call {
                Some((name, _)) if is_listed && depends(section, interface, name) => {
                    samples(&values, number)
                }
                _ => vec![[0; 6], [u64::MAX; 6]],
            };
            let expected = match is_listed {
                true => reading.expected(number, &samples),
                false => vec![ret::KILL_PROCESS; samples.len()],
            };
            for (args, want) in samples.into_iter().zip(expected) {
                let is = run(&program, interface.audit, interface.bit | number, args);
                if is != want {
                    let oci = interface.oci;
                    return Err(format!(
                        "{oci:?} {call:?} {args:x?}: {is:#x} instead of {want:#x}"
                    ));
                }
            }
        }
    }
    let default = value(section.default_action(), section.default_errno_ret());
    let none = run(&program, NATIVE, u32::MAX, [0; 6]);
    if none != default {
        return Err(format!("no call: {none:#x} instead of {default:#x}"));
    }
    Ok(())
}
