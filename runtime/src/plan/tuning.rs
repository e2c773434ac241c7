//! How the kernel treats the process: scheduling, I/O priority, memory placement, personality,
//! labels of security modules.

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process,
};

use crate::facts::SecurityModules;
use crate::plan::PlanError;
use crate::plan::step::Step;
use crate::plan::values::{Affinity, MemoryPolicy, Scheduler, SecurityModule, parse_bits};
use crate::spec::Bundle;

/// The steps of `process` and, for the first process of a container, of `linux`.
pub fn steps(
    process: &Process,
    linux: Option<&Linux>,
    bundle: &Bundle,
) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    if let Some(priority) = process.io_priority() {
        let level = i32::try_from(priority.priority())
            .ok()
            .filter(|level| (0..8).contains(level));
        let Some(level) = level else {
            let why = format!("{} is not in 0..=7", priority.priority());
            return Err(bundle.invalid("process.ioPriority.priority", why).into());
        };
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        // IOPRIO_PRIO_VALUE of linux/ioprio.h.
        steps.push(Step::IoPriority(class << 13 | level));
    }
    steps.extend(scheduler(process, bundle)?.map(Step::Scheduler));
    if let Some(policy) = linux.and_then(|l| l.memory_policy().as_ref()) {
        steps.push(Step::MemoryPolicy(memory_policy(policy, bundle)?));
    }
    if let Some(personality) = linux.and_then(|l| l.personality().as_ref()) {
        if personality.flags().as_ref().is_some_and(|f| !f.is_empty()) {
            let why = "the specification defines none yet; remove them";
            return Err(bundle.unsupported("linux.personality.flags", why).into());
        }
        // PER_LINUX and PER_LINUX32 of linux/personality.h.
        steps.push(Step::Personality(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }));
    }
    Ok(steps)
}

/// `process.execCPUAffinity.initial`: before the process joins the container.
pub fn initial_affinity(process: &Process, bundle: &Bundle) -> Result<Option<Step>, PlanError> {
    let list = process.exec_cpu_affinity().as_ref();
    affinity(list.and_then(|a| a.initial().as_deref()), "initial", bundle)
}

/// `process.execCPUAffinity.final`: what the program of `exec` begins with.
pub fn final_affinity(process: &Process, bundle: &Bundle) -> Result<Option<Step>, PlanError> {
    let list = process.exec_cpu_affinity().as_ref();
    let list = list.and_then(|a| a.cpu_affinity_final().as_deref());
    affinity(list, "final", bundle)
}

fn affinity(list: Option<&str>, name: &str, bundle: &Bundle) -> Result<Option<Step>, PlanError> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let parsed = Affinity::parse(list).ok_or_else(|| {
        let why = format!("{list:?} is not a list of processors such as 0-3,7");
        bundle.invalid(format!("process.execCPUAffinity.{name}"), why)
    });
    Ok(Some(Step::Affinity(parsed?)))
}

/// sched_setattr(2); which values go together is the kernel's to say.
fn scheduler(process: &Process, bundle: &Bundle) -> Result<Option<Scheduler>, PlanError> {
    let Some(wanted) = process.scheduler() else {
        return Ok(None);
    };
    let policy = match wanted.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
        LinuxSchedulerPolicy::SchedIso => {
            let why = "Linux reserves SCHED_ISO and does not have it; use another policy";
            return Err(bundle.unsupported("process.scheduler.policy", why).into());
        }
    };
    let flags = wanted.flags().iter().flatten().map(|flag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    });
    let nice = wanted.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        let why = format!("{nice} is not in -20..=19");
        return Err(bundle.invalid("process.scheduler.nice", why).into());
    }
    let priority = wanted.priority().unwrap_or(0);
    let Ok(priority) = u32::try_from(priority) else {
        let why = format!("{priority} is negative");
        return Err(bundle.invalid("process.scheduler.priority", why).into());
    };
    let clock = |value: &Option<u64>| value.unwrap_or(0);
    Ok(Some(Scheduler {
        policy: policy.cast_unsigned(),
        flags: flags.fold(0, |all, flag| all | flag),
        nice,
        priority,
        runtime: clock(wanted.runtime()),
        deadline: clock(wanted.deadline()),
        period: clock(wanted.period()),
    }))
}

/// set_mempolicy(2), linux/mempolicy.h.
fn memory_policy(policy: &LinuxMemoryPolicy, bundle: &Bundle) -> Result<MemoryPolicy, PlanError> {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().map(|flag| match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    });
    let list = policy.nodes().as_deref().filter(|n| !n.trim().is_empty());
    let nodes = list.map_or(Some([0; 16]), parse_bits).ok_or_else(|| {
        let why = format!(
            "{:?} is not a list of nodes such as 0-1",
            list.unwrap_or("")
        );
        bundle.invalid("linux.memoryPolicy.nodes", why)
    })?;
    Ok(MemoryPolicy {
        mode: flags.fold(mode, |all, flag| all | flag),
        nodes,
    })
}

/// The labels of the program, set while the procfs of the host is in reach. One that no module of
/// this host enforces would be a protection that is not there.
pub fn labels(
    process: &Process,
    bundle: &Bundle,
    modules: SecurityModules,
) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    for (field, text, module, present, why) in [
        (
            "process.apparmorProfile",
            process.apparmor_profile(),
            SecurityModule::AppArmor,
            modules.apparmor,
            "AppArmor is not enabled on this host; remove it, or boot with apparmor=1",
        ),
        (
            "process.selinuxLabel",
            process.selinux_label(),
            SecurityModule::SeLinux,
            modules.selinux,
            "SELinux is not enabled on this host; remove it, or boot with selinux=1",
        ),
    ] {
        let Some(text) = text.clone().filter(|text| !text.is_empty()) else {
            continue;
        };
        if !present {
            return Err(bundle.unsupported(field, why).into());
        }
        steps.push(Step::Label { module, text });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(process: &str, linux: &str, modules: SecurityModules) -> Result<Vec<Step>, String> {
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "r"}}, "linux": {{"namespaces":
            [{{"type": "mount"}}]{linux}}}, "process": {{"user": {{}}, "args": ["x"], "cwd": "/"{process}}}}}"#
        );
        let bundle = Bundle::parse(Path::new("/b"), text.into_bytes()).unwrap();
        let process = bundle.spec.process().as_ref().unwrap();
        let linux = bundle.spec.linux().as_ref();
        let all = steps(process, linux, &bundle).and_then(|mut all| {
            all.extend(labels(process, &bundle, modules)?);
            Ok(all)
        });
        all.map_err(|e| e.to_string())
    }

    #[test]
    fn values_are_those_of_the_kernel() {
        let none = SecurityModules::default();
        let process = r#", "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
            "scheduler": {"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_RESET_ON_FORK"]}"#;
        let linux = r#", "personality": {"domain": "LINUX32"},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0,2-3", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let found = plan(process, linux, none).unwrap();
        assert!(found.contains(&Step::IoPriority(3 << 13 | 4)), "{found:?}");
        assert!(found.contains(&Step::Personality(8)));
        let mut nodes = [0; 16];
        nodes[0] = 0b1101;
        assert!(found.contains(&Step::MemoryPolicy(MemoryPolicy {
            mode: 2 | 1 << 15,
            nodes
        })));
        assert!(found.iter().any(|s| matches!(s, Step::Scheduler(s)
            if (s.policy, s.flags, s.priority) == (1, 1, 7))));
    }

    #[test]
    fn a_label_without_its_module_is_refused() {
        let process = r#", "apparmorProfile": "docker-default""#;
        let why = plan(process, "", SecurityModules::default()).unwrap_err();
        assert!(
            why.contains("process.apparmorProfile") && why.contains("AppArmor"),
            "{why}"
        );
        let modules = SecurityModules {
            apparmor: true,
            selinux: false,
        };
        assert_eq!(plan(process, "", modules).unwrap().len(), 1);
        let why = plan(r#", "selinuxLabel": "a:b:c:s0""#, "", modules).unwrap_err();
        assert!(why.contains("process.selinuxLabel"), "{why}");
        let why = plan(
            r#", "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}"#,
            "",
            modules,
        );
        assert!(why.unwrap_err().contains("0..=7"));
    }
}
