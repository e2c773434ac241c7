//! Reading a `linux.seccomp` section: for each system call, what happens.

use super::arch::{INTERFACES, NO};
use super::{Arch, SeccompError};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};

/// Return values of a filter (linux/seccomp.h).
pub(super) mod ret {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    pub const ACTION: u32 = 0xffff_0000;
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The largest errno that the kernel passes on.
const MAX_ERRNO: u32 = 4095;

/// One comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    /// 0 to 5.
    pub argument: u8,
    pub test: Test,
}

/// The comparisons that remain; "less" is "not greater or equal".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Test {
    /// `arg & mask == value`, or not. `value` has no bits outside of `mask`.
    Masked { mask: u64, value: u64, negate: bool },
    /// `arg > value`, or not.
    Greater { value: u64, negate: bool },
    /// `arg >= value`, or not.
    GreaterOrEqual { value: u64, negate: bool },
}

/// All conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub conditions: Vec<Condition>,
    /// The filter's return value.
    pub action: u32,
}

/// What happens with one system call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Decision {
    /// No rule names it.
    #[default]
    Default,
    /// The same return value always.
    Always(u32),
    /// The first rule that matches, else the default action. Never empty.
    ByArguments(Vec<Rule>),
}

/// A section, understood.
#[derive(Debug)]
pub(super) struct Profile {
    /// Return value for what no rule decides.
    pub default: u32,
    /// Return value for numbers that are larger than those of all calls with a rule.
    pub newer: u32,
    /// By row of the architecture's table.
    pub calls: Vec<Decision>,
    /// For each interface of the architecture, the largest number of a call with a rule, or -1.
    pub largest: [i32; INTERFACES],
    /// Which interfaces of the architecture are listed; the native one always is.
    pub listed: [bool; INTERFACES],
    /// Whether a rule has the action `SCMP_ACT_NOTIFY`.
    pub notifies: bool,
}

impl Profile {
    pub fn read(section: &LinuxSeccomp, arch: &Arch) -> Result<Self, SeccompError> {
        if section.default_action() == Action::ScmpActNotify {
            return Err(SeccompError::NotifyDefault);
        }
        let default = action(
            section.default_action(),
            section.default_errno_ret(),
            "defaultAction",
        )?;
        let listed = section.architectures().as_deref().unwrap_or_default();
        let is_listed = |index: usize| {
            let interface = arch.interfaces.get(index);
            interface.is_some_and(|interface| index == 0 || listed.contains(&interface.oci))
        };
        let mut profile = Self {
            default,
            newer: if denies(default) {
                ret::ERRNO | ENOSYS
            } else {
                default
            },
            calls: vec![Decision::Default; arch.calls.len()],
            largest: [NO; INTERFACES],
            listed: std::array::from_fn(is_listed),
            notifies: false,
        };
        for (index, rule) in section.syscalls().iter().flatten().enumerate() {
            profile.add(index, rule, arch)?;
        }
        profile.calls.iter_mut().for_each(sort_by_strictness);
        Ok(profile)
    }

    fn add(&mut self, index: usize, rule: &LinuxSyscall, arch: &Arch) -> Result<(), SeccompError> {
        if rule.names().is_empty() || rule.names().iter().any(String::is_empty) {
            return Err(SeccompError::NoNames { index });
        }
        let at = format_args!("syscalls[{index}]").to_string();
        let action = action(rule.action(), rule.errno_ret(), &at)?;
        if action == ret::USER_NOTIF {
            self.notifies = true;
            if rule.names().iter().any(|name| name == "write") {
                return Err(SeccompError::NotifyWrite { index });
            }
        }
        let alternatives = alternatives(rule.args().as_deref().unwrap_or_default(), index)?;
        let mut next = 0;
        for name in rule.names() {
            let Some(row) = arch.row_from(&mut next, name) else {
                if denies(action) && !denies(self.default) && !arch.is_known(name) {
                    return Err(SeccompError::UnknownName {
                        index,
                        name: name.clone(),
                    });
                }
                continue;
            };
            for (largest, number) in self.largest.iter_mut().zip(arch.calls[row].1) {
                *largest = number.max(*largest);
            }
            if action == self.default {
                continue;
            }
            self.calls[row].add(&alternatives, action).map_err(|()| {
                SeccompError::Contradiction {
                    index,
                    name: name.clone(),
                }
            })?;
        }
        Ok(())
    }

    /// What a decision comes to where arguments cannot be seen: as far as it depends on them, the
    /// strictest of its actions counts if that is stricter than the default action. Nothing is
    /// allowed on the strength of a comparison that was not made.
    pub fn unseen(&self, decision: &Decision) -> Decision {
        match decision {
            Decision::ByArguments(rules) => match rules.first() {
                Some(rule) if strictness(rule.action) < strictness(self.default) => {
                    Decision::Always(rule.action)
                }
                _ => Decision::Default,
            },
            other => other.clone(),
        }
    }
}

impl Decision {
    fn add(&mut self, alternatives: &[Vec<Condition>], action: u32) -> Result<(), ()> {
        if matches!(self, Self::Always(_)) {
            return Ok(());
        }
        if alternatives.is_empty() {
            *self = Self::Always(action);
            return Ok(());
        }
        if *self == Self::Default {
            *self = Self::ByArguments(Vec::new());
        }
        let Self::ByArguments(rules) = self else {
            return Ok(());
        };
        for conditions in alternatives {
            match rules.iter().find(|rule| rule.conditions == *conditions) {
                Some(same) if same.action == action => {}
                Some(_) => return Err(()),
                None => rules.push(Rule {
                    conditions: conditions.clone(),
                    action,
                }),
            }
        }
        Ok(())
    }
}

/// Where several rules match, the strictest one comes first.
pub(super) fn sort_by_strictness(decision: &mut Decision) {
    if let Decision::ByArguments(rules) = decision {
        rules.sort_by_key(|rule| strictness(rule.action));
    }
}

/// The order of the kernel for several filters (seccomp(2)); the strictest is the least.
fn strictness(value: u32) -> i32 {
    (value & ret::ACTION).cast_signed()
}

/// Whether a call with this return value is not carried out.
pub(super) fn denies(value: u32) -> bool {
    strictness(value) <= strictness(ret::ERRNO)
}

/// The return value for an action of a section.
fn action(action: Action, errno: Option<u32>, at: &str) -> Result<u32, SeccompError> {
    let field = || {
        if at == "defaultAction" {
            "defaultErrnoRet".to_owned()
        } else {
            format!("{at}.errnoRet")
        }
    };
    let with_number = |base: u32, most: u32| match errno.unwrap_or(EPERM) {
        value if value > most => Err(SeccompError::ErrnoRange {
            at: field(),
            value,
            most,
        }),
        value => Ok(base | value),
    };
    let value = match action {
        Action::ScmpActErrno => return with_number(ret::ERRNO, MAX_ERRNO),
        Action::ScmpActTrace => return with_number(ret::TRACE, 0xffff),
        Action::ScmpActNotify => ret::USER_NOTIF,
        Action::ScmpActKill | Action::ScmpActKillThread => ret::KILL_THREAD,
        Action::ScmpActKillProcess => ret::KILL_PROCESS,
        Action::ScmpActTrap => ret::TRAP,
        Action::ScmpActLog => ret::LOG,
        Action::ScmpActAllow => ret::ALLOW,
    };
    if errno.is_some() {
        return Err(SeccompError::NoErrno {
            at: field(),
            action,
        });
    }
    Ok(value)
}

/// The `args` of a rule as alternatives of conditions; empty for a rule without `args`.
fn alternatives(
    args: &[LinuxSeccompArg],
    rule: usize,
) -> Result<Vec<Vec<Condition>>, SeccompError> {
    let mut conditions = args
        .iter()
        .map(|arg| condition(arg, rule))
        .collect::<Result<Vec<_>, _>>()?;
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let repeated = conditions.iter().enumerate().any(|(n, c)| {
        conditions[..n]
            .iter()
            .any(|earlier| earlier.argument == c.argument)
    });
    if repeated {
        return Ok(conditions
            .into_iter()
            .map(|condition| vec![condition])
            .collect());
    }
    conditions.sort_unstable();
    Ok(vec![conditions])
}

fn condition(arg: &LinuxSeccompArg, rule: usize) -> Result<Condition, SeccompError> {
    let argument = u8::try_from(arg.index())
        .ok()
        .filter(|index| *index <= 5)
        .ok_or(SeccompError::ArgumentIndex {
            rule,
            index: arg.index(),
        })?;
    let value = arg.value();
    let whole = |negate| Test::Masked {
        mask: u64::MAX,
        value,
        negate,
    };
    let test = match arg.op() {
        Operator::ScmpCmpEq => whole(false),
        Operator::ScmpCmpNe => whole(true),
        Operator::ScmpCmpGt => Test::Greater {
            value,
            negate: false,
        },
        Operator::ScmpCmpLe => Test::Greater {
            value,
            negate: true,
        },
        Operator::ScmpCmpGe => Test::GreaterOrEqual {
            value,
            negate: false,
        },
        Operator::ScmpCmpLt => Test::GreaterOrEqual {
            value,
            negate: true,
        },
        Operator::ScmpCmpMaskedEq => {
            // libseccomp, too, looks only at the bits of the mask.
            let wanted = arg.value_two().unwrap_or(0) & value;
            Test::Masked {
                mask: value,
                value: wanted,
                negate: false,
            }
        }
    };
    Ok(Condition { argument, test })
}
