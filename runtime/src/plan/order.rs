//! What a new process can do while the runtime makes its network namespace: everything that sysfs, the one
//! file system that shows the network, cannot change. Making the namespace is the longest single call of a
//! launch, so the process would stand and wait for it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Step;
use super::mounts::MountKind;

/// Moves steps before the one that waits for the network, if all that they touch stays the same by
/// that: nodes and links in `/dev`, and what is hidden of a `/proc` that is nothing but procfs.
pub(super) fn beside_network(steps: &mut Vec<Step>) {
    let Some(wait) = steps.iter().position(|s| matches!(s, Step::JoinNewNetwork)) else {
        return;
    };
    // Everything of this part of the plan, beginning with the root.
    let begin = steps.iter().position(|s| matches!(s, Step::Root { .. }));
    let Some(before) = begin.and_then(|begin| steps.get(begin..wait)) else {
        return;
    };
    let after = &steps[wait + 1..];
    let mounted = after.iter().take_while(|s| target(s).is_some()).count();
    // Mounts that come later may lie above what is there: only those of `/sys` leave the rest alone.
    if !after[..mounted].iter().all(|s| is_below(target(s), "/sys")) {
        return;
    }
    let plain_procfs = is_plain_procfs(before);
    // A sysctl is written before /proc/sys becomes read-only, and perhaps to the new network.
    let sysctls = after.iter().any(|s| matches!(s, Step::Sysctl { .. }));
    let movable = |step: &Step| match step {
        Step::Device(node) => is_below(Some(&node.path), "/dev/"),
        Step::DeviceBind { path, .. } => is_below(Some(path), "/dev/"),
        Step::DeviceLinks => true,
        Step::ReadOnly(path) | Step::Mask(path) => {
            plain_procfs && !sysctls && is_below(Some(path), "/proc/")
        }
        _ => false,
    };
    let (early, late): (Vec<_>, Vec<_>) = steps.split_off(wait).into_iter().partition(movable);
    steps.extend(early);
    steps.extend(late);
}

/// Whether `/proc` is a procfs of the plan's own and has nothing of anybody else in it, where names could lead
/// to other file systems.
fn is_plain_procfs(steps: &[Step]) -> bool {
    let mut inside = steps.iter().filter(|s| is_below(target(s), "/proc"));
    let first = inside.next();
    let procfs = first.is_some_and(|step| match step {
        Step::Mount(mount) => {
            mount.target == Path::new("/proc")
                && matches!(&mount.kind, MountKind::New { fstype, .. } if fstype == "proc")
        }
        _ => false,
    });
    procfs && inside.next().is_none()
}

/// Where a step of the mounts does something.
fn target(step: &Step) -> Option<&Path> {
    match step {
        Step::Mount(mount) => Some(&mount.target),
        Step::Attributes { path, .. } | Step::Link { path, .. } => Some(path),
        _ => None,
    }
}

/// Whether a path (a clean one, as all of a plan) is `directory` or below it; with a slash at its end, only below it.
fn is_below(path: Option<&Path>, directory: &str) -> bool {
    let own = directory.trim_end_matches('/');
    let rest = path.and_then(|path| path.as_os_str().as_bytes().strip_prefix(own.as_bytes()));
    rest.is_some_and(|rest| match rest.first() {
        Some(next) => *next == b'/',
        None => own == directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mounts::plain;

    fn mount(at: &str, fstype: &str) -> Step {
        Step::Mount(plain(Path::new(at), fstype, &[]))
    }

    fn root() -> Step {
        Step::Root {
            path: "/r".into(),
            prepared: false,
            propagation: 0,
        }
    }

    /// What a plan of these looks like after the root.
    fn ordered(steps: &[Step]) -> Vec<String> {
        let mut all = vec![root()];
        all.extend_from_slice(steps);
        beside_network(&mut all);
        all[1..].iter().map(ToString::to_string).collect()
    }

    fn same(steps: &[Step]) {
        let plain: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(ordered(steps), plain);
    }

    fn common(last: &[Step]) -> Vec<Step> {
        let mut steps = vec![mount("/proc", "proc"), Step::JoinNewNetwork];
        steps.extend([mount("/sys", "sysfs"), mount("/sys/fs/cgroup", "cgroup2")]);
        steps.extend_from_slice(last);
        steps
    }

    #[test]
    fn what_sysfs_cannot_change_comes_before_the_wait() {
        let hidden = [
            Step::DeviceLinks,
            Step::ReadOnly("/proc/sys".into()),
            Step::Mask("/sys/firmware".into()),
            Step::Mask("/proc/keys".into()),
            Step::ReadOnly("/proc".into()),
        ];
        let got = ordered(&common(&hidden));
        let at = |step: &Step| {
            got.iter()
                .position(|line| *line == step.to_string())
                .unwrap()
        };
        let wait = at(&Step::JoinNewNetwork);
        assert_eq!(
            hidden.each_ref().map(|step| at(step) < wait),
            [true, true, false, true, false]
        );
        assert!(at(&hidden[1]) < at(&hidden[3]) && at(&hidden[2]) < at(&hidden[4]));
        assert_eq!(got.len(), 9);
    }

    #[test]
    fn what_it_could_change_stays() {
        let mask = Step::Mask("/proc/keys".into());
        // Written before it becomes read-only.
        let sysctl = Step::Sysctl {
            path: "net/ipv4/ip_forward".into(),
            value: "1".into(),
        };
        same(&common(&[sysctl, Step::ReadOnly("/proc/sys".into())]));
        // Something of somebody else's lies in /proc, or it is none.
        let mut steps = common(std::slice::from_ref(&mask));
        steps.insert(1, mount("/proc/own", "tmpfs"));
        same(&steps);
        same(&common(std::slice::from_ref(&mask))[1..]);
        // A mount that comes later, and perhaps lies above.
        let mut steps = common(&[Step::DeviceLinks, mask]);
        steps.insert(4, mount("/dev", "tmpfs"));
        same(&steps);
    }
}
