//! libseccomp as an oracle, where its headers are installed.

use super::naive::samples;
use super::*;
use oci_spec::runtime::LinuxSeccompArg;
use proptest::prelude::*;
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;

thread_local! {
    /// The helper, compiled once. Not a static: those are never dropped, and would leave the
    /// directory behind.
    static HELPER: Option<Rc<(tempfile::TempDir, PathBuf)>> = helper().map(Rc::new);
}

fn helper() -> Option<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("helper");
    let made = Command::new("cc")
        .args(["-x", "c", "-", "-lseccomp", "-o"])
        .arg(&helper)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let made = made.and_then(|mut compiler| {
        let input = include_bytes!("libseccomp.c");
        compiler.stdin.take().unwrap().write_all(input)?;
        compiler.wait()
    });
    if made.is_ok_and(|status| status.success()) {
        return Some((dir, helper));
    }
    eprintln!("SKIP libseccomp: no compiler, or libseccomp-dev is not installed");
    None
}

fn is_known(helper: &PathBuf, name: &str) -> bool {
    let status = Command::new(helper).arg(name).status().unwrap();
    status.success()
}

fn action(action: Action, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match action {
        Action::ScmpActErrno => ret::ERRNO | errno,
        Action::ScmpActTrace => ret::TRACE | errno,
        other => other.into_plain(),
    }
}

trait Plain {
    fn into_plain(self) -> u32;
}

impl Plain for Action {
    /// Without a number.
    fn into_plain(self) -> u32 {
        match self {
            Action::ScmpActKillProcess => ret::KILL_PROCESS,
            Action::ScmpActTrap => ret::TRAP,
            Action::ScmpActLog => ret::LOG,
            Action::ScmpActAllow => ret::ALLOW,
            Action::ScmpActNotify => ret::USER_NOTIF,
            _ => ret::KILL_THREAD,
        }
    }
}

/// One rule or several, as runc reads `args`.
fn rules(rule: &LinuxSyscall) -> Vec<String> {
    let args = rule.args().as_deref().unwrap_or_default();
    let text = |arg: &LinuxSeccompArg| {
        let op = match arg.op() {
            Operator::ScmpCmpNe => 1,
            Operator::ScmpCmpLt => 2,
            Operator::ScmpCmpLe => 3,
            Operator::ScmpCmpEq => 4,
            Operator::ScmpCmpGe => 5,
            Operator::ScmpCmpGt => 6,
            Operator::ScmpCmpMaskedEq => 7,
        };
        let two = arg.value_two().unwrap_or(0);
        format!("{} {op} {} {two}", arg.index(), arg.value())
    };
    let indexes: HashSet<_> = args.iter().map(|arg| arg.index()).collect();
    if indexes.len() < args.len() {
        return args.iter().map(|arg| format!("1 {}", text(arg))).collect();
    }
    let args: Vec<String> = args.iter().map(text).collect();
    vec![format!("{} {}", args.len(), args.join(" "))]
}

/// libseccomp's program, unless it finds a contradiction.
fn theirs(helper: &PathBuf, section: &LinuxSeccomp) -> Option<Vec<sock_filter>> {
    let default = action(section.default_action(), section.default_errno_ret());
    let mut input = format!("default {default}\n");
    for arch in section.architectures().iter().flatten() {
        input += &format!("arch {}\n", *arch as u32);
    }
    for rule in section.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret());
        if action == default {
            continue;
        }
        for name in rule.names() {
            for args in rules(rule) {
                input += &format!("rule {action} {name} {args}\n");
            }
        }
    }
    let mut child = Command::new(helper)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(17) {
        return None;
    }
    assert!(output.status.success(), "{:?} for\n{input}", output.status);
    let instruction = |bytes: &[u8]| sock_filter {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    Some(output.stdout.chunks(8).map(instruction).collect())
}

/// Without what libseccomp installed here does not know.
fn known_only(helper: &PathBuf, section: &LinuxSeccomp) -> LinuxSeccomp {
    let mut section = section.clone();
    let rules = section.syscalls().clone().map(|mut rules| {
        for rule in &mut rules {
            let mut names = rule.names().clone();
            names.retain(|name| is_known(helper, name));
            rule.set_names(names);
        }
        rules.retain(|rule| !rule.names().is_empty());
        rules
    });
    section.set_syscalls(rules);
    section
}

/// Where ours means something else on purpose (see the module's documentation): newer calls and
/// numbers that old kernels confuse do not exist instead of getting the default action; and what
/// depends on arguments in memory is not decided by registers, so nothing more is carried out.
fn differs_on_purpose(
    ours: u32,
    theirs: u32,
    default: u32,
    interface: &Interface,
    number: u32,
) -> bool {
    let strictness = |value: u32| (value & ret::ACTION).cast_signed();
    let i386 = interface.narrow && interface.bit == 0;
    (ours == ENOSYS && theirs == default)
        || (i386 && [82, 90, 102, 117].contains(&number) && strictness(ours) <= strictness(theirs))
}

/// Both programs decide alike.
pub(super) fn agrees(section: &LinuxSeccomp) {
    let Some(made) = HELPER.with(Clone::clone) else {
        return;
    };
    let helper = &made.1;
    let section = known_only(helper, section);
    let ours = match compile(&section, &X86_64) {
        Err(SeccompError::Contradiction { .. }) => return,
        other => other.unwrap().instructions,
    };
    let Some(theirs) = theirs(helper, &section) else {
        // Through socketcall, rules for different calls can contradict each other.
        return;
    };
    let mut values = interesting(&section);
    values.extend(2..25);
    let default = action(section.default_action(), section.default_errno_ret());
    let mut differing = 0;
    for interface in X86_64.interfaces {
        for number in 0..600 {
            for args in samples(&values, number).into_iter().take(120) {
                let nr = interface.bit | number;
                let [is, want] = [&ours, &theirs].map(|p| run(p, interface.audit, nr, args));
                if is == want {
                    continue;
                }
                differing += 1;
                assert!(
                    differs_on_purpose(is, want, default, interface, number),
                    "{:?} {number} {args:x?}: {is:#x}, in libseccomp {want:#x}; {section:?}",
                    interface.oci
                );
            }
        }
    }
    eprintln!(
        "{} instructions, libseccomp {}; {differing} differences on purpose",
        ours.len(),
        theirs.len()
    );
}

#[test]
fn large_profiles_mean_what_they_mean_in_libseccomp() {
    let Some(made) = HELPER.with(Clone::clone) else {
        return;
    };
    let helper = &made.1;
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"] {
        agrees(&profiles::large(default, |name| is_known(helper, name)));
    }
}

/// The names of a random profile: those that all three interfaces have. libseccomp 2.5.4 forgets
/// to load the number where an interface lacks the first call of its list. (`large` has calls of
/// one interface only, further behind.)
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "read", "open", "openat", "close", "ioctl", "clone", "personality", "prctl", "ptrace",
    "socket", "connect", "listen", "shmget", "msgctl", "arch_prctl", "sendmsg", "execve",
    "getrandom", "io_setup", "setrlimit", "pselect6", "kexec_load", "mount", "umask",
];

/// A profile in which every call has one rule with arguments at most. Where several match,
/// libseccomp's choice is of its making; and where one compares an upper half that another one
/// orders, it can miss that (2.5.4: `arg > 0xecfe...` does not hold for `0xffffffff00000000` when
/// `arg == u64::MAX` is a rule as well).
fn profile() -> impl Strategy<Value = LinuxSeccomp> {
    let value = prop_oneof![
        0u64..5,
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        Just(u64::MAX),
        Just(0x7e02_0000),
    ];
    let op = proptest::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    let args = proptest::collection::btree_map(0usize..3, (op, value.clone(), value), 0..3);
    let names = proptest::sample::subsequence(NAMES, 1..5);
    let rules = proptest::collection::vec((names, args), 1..8);
    let architectures = proptest::sample::subsequence(
        vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        0..4,
    );
    let actions = proptest::sample::select(vec![
        ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"),
        ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"),
        ("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"),
        ("SCMP_ACT_TRAP", "SCMP_ACT_TRACE"),
        ("SCMP_ACT_LOG", "SCMP_ACT_KILL"),
    ]);
    (actions, architectures, rules).prop_map(|((default, action), architectures, rules)| {
        let mut seen = HashSet::new();
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(mut names, args)| {
                names.retain(|name| args.is_empty() || seen.insert(*name));
                let args: Vec<_> = args
                    .into_iter()
                    .map(|(index, (op, value, two))| {
                        serde_json::json!({"index": index, "op": format!("SCMP_CMP_{op}"),
                            "value": value, "valueTwo": two})
                    })
                    .collect();
                serde_json::json!({"names": names, "action": action, "args": args})
            })
            .filter(|rule| rule["names"] != serde_json::json!([]))
            .collect();
        serde_json::from_value(serde_json::json!({
            "defaultAction": default, "architectures": architectures, "syscalls": rules,
        }))
        .unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_profiles_mean_what_they_mean_in_libseccomp(profile in profile()) {
        agrees(&profile);
    }
}
