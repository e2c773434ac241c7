//! The default seccomp profile: one versioned table of system calls, written into config.json.
//!
//! It is an allow-list. A call that is not in the table gives `ENOSYS`, so that a C library falls
//! back as on an older kernel. Calls that are refused on purpose give `EPERM`, which says so, or
//! `ENOSYS` where programs have a fallback for it. Only x86-64 calls are allowed at all: a 32-bit
//! or x32 call ends the process (seccomp_set_mode_filter(2), `SECCOMP_RET_KILL`).
//!
//! What is refused and why:
//! - new namespaces, by `unshare`, `setns` or flags of `clone`: they are where most ways out of
//!   sandboxes began. `clone3` cannot be judged by its arguments (they are in memory), so it
//!   gives `ENOSYS` and C libraries use `clone`.
//! - mounts, kernel modules, `bpf`, `perf_event_open`, `userfaultfd`, key rings, `kexec`, swap,
//!   clock, quota: the surface of the kernel that an application does not need.
//! - `io_uring`: its operations are not seen by seccomp.
//! - `ptrace` and its relatives: one process of the application should not read another's memory.
//! - address families other than local, IPv4, IPv6 and (for interface lists) netlink.

mod table;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use table::{ABSENT, ALLOWED, REFUSED};

/// The version of this table; it changes whenever the table does. In config.json as the
/// annotation `org.metactl.seccomp`.
pub const VERSION: &str = "1";

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Flags of `clone` that make a namespace: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID,
/// NEWNET (`linux/sched.h`; NEWTIME is one of `unshare` and `clone3` only).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Address families of `socket` and `socketpair`: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// Execution domains of `personality`: Linux, Linux with 32-bit `uname`, and the question.
const PERSONALITIES: [u64; 3] = [0, 8, 0xffff_ffff];

/// The profile.
///
/// # Errors
/// Never with the table as it is; the type's builder could refuse a part.
pub fn default_profile() -> Result<LinuxSeccomp, OciSpecError> {
    let mut allowed: Vec<&str> = ALLOWED
        .iter()
        .flat_map(|group| group.iter().copied())
        .collect();
    allowed.sort_unstable();
    let mut rules = vec![
        rule(&allowed, LinuxSeccompAction::ScmpActAllow, None, None)?,
        rule(REFUSED, LinuxSeccompAction::ScmpActErrno, Some(EPERM), None)?,
        rule(ABSENT, LinuxSeccompAction::ScmpActErrno, Some(ENOSYS), None)?,
    ];
    // (flags & namespaces) == 0.
    rules.push(allow_when(&["clone"], masked(0, CLONE_NAMESPACES, 0)?)?);
    for family in FAMILIES {
        rules.push(allow_when(&["socket", "socketpair"], equal(0, family)?)?);
    }
    for personality in PERSONALITIES {
        rules.push(allow_when(&["personality"], equal(0, personality)?)?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(ENOSYS)
        .architectures(vec![Arch::ScmpArchX86_64])
        // None, said: without a list runtimes switch a mitigation of the processor off (SPEC_ALLOW).
        .flags(Vec::new())
        .syscalls(rules)
        .build()
}

fn rule(
    names: &[&str],
    action: LinuxSeccompAction,
    errno: Option<u32>,
    arg: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        rule = rule.errno_ret(errno);
    }
    if let Some(arg) = arg {
        rule = rule.args(vec![arg]);
    }
    rule.build()
}

fn allow_when(names: &[&str], arg: LinuxSeccompArg) -> Result<LinuxSyscall, OciSpecError> {
    rule(names, LinuxSeccompAction::ScmpActAllow, None, Some(arg))
}

fn equal(index: usize, value: u64) -> Result<LinuxSeccompArg, OciSpecError> {
    let arg = LinuxSeccompArgBuilder::default().index(index).value(value);
    arg.op(LinuxSeccompOperator::ScmpCmpEq).build()
}

/// `(argument & mask) == value`; in the file `value` is the mask and `valueTwo` the value.
fn masked(index: usize, mask: u64, value: u64) -> Result<LinuxSeccompArg, OciSpecError> {
    let arg = LinuxSeccompArgBuilder::default()
        .index(index)
        .value(mask)
        .value_two(value);
    arg.op(LinuxSeccompOperator::ScmpCmpMaskedEq).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_stands_in_one_list_once() {
        let mut seen = BTreeSet::new();
        let with_arguments = ["clone", "socket", "socketpair", "personality"];
        let lists = ALLOWED
            .iter()
            .copied()
            .chain([REFUSED, ABSENT, &with_arguments]);
        for name in lists.flatten() {
            assert!(seen.insert(*name), "{name} stands twice");
        }
        assert!(seen.len() > 300, "{}", seen.len());
    }

    #[test]
    fn what_leads_out_of_the_sandbox_is_not_allowed() {
        let allowed: BTreeSet<&str> = ALLOWED.iter().flat_map(|g| g.iter().copied()).collect();
        for name in [
            "mount",
            "bpf",
            "ptrace",
            "keyctl",
            "userfaultfd",
            "perf_event_open",
            "io_uring_setup",
            "unshare",
            "setns",
            "kexec_load",
            "init_module",
            "clone3",
            "clone",
            "socket",
            "open_by_handle_at",
            "pivot_root",
            "chroot",
            "modify_ldt",
            "process_vm_readv",
        ] {
            assert!(!allowed.contains(name), "{name}");
        }
    }

    #[test]
    fn the_clone_rule_covers_every_namespace_flag() {
        // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
        let flags: [u64; 7] = [
            0x20000,
            0x0200_0000,
            0x0400_0000,
            0x0800_0000,
            0x1000_0000,
            0x2000_0000,
            0x4000_0000,
        ];
        assert_eq!(
            flags.iter().fold(0, |all, flag| all | flag),
            CLONE_NAMESPACES
        );
        let profile = default_profile().unwrap();
        let clone = profile
            .syscalls()
            .as_ref()
            .unwrap()
            .iter()
            .find(|rule| rule.names() == &["clone"]);
        let arg = clone.unwrap().args().as_ref().unwrap()[0];
        assert_eq!((arg.value(), arg.value_two()), (CLONE_NAMESPACES, Some(0)));
    }
}
