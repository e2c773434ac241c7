//! The control files of cgroup v1 (kernel documentation, admin-guide/cgroup-v1), and those that
//! v2 took over unchanged.
//!
//! As in runc, a numeric limit of 0 means "not set" and -1 means "without limit".

use super::CgroupError;
use super::wanted::Limit;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxRdma,
    LinuxThrottleDevice,
};
use std::collections::HashMap;

pub(super) type Limits = Result<Vec<Limit>, CgroupError>;

pub(super) fn unsupported(setting: String, why: impl Into<String>) -> CgroupError {
    CgroupError::Unsupported {
        setting,
        why: why.into(),
    }
}

/// A byte count of OCI: nothing for "not set", an error below -1.
pub(super) fn bytes(value: Option<i64>, setting: &str) -> Result<Option<i64>, CgroupError> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) if value < -1 => Err(unsupported(
            setting.to_owned(),
            format!("{value} is not a number of bytes; use a positive number, or -1 for no limit"),
        )),
        some => Ok(some),
    }
}

/// The parts of `memory` that no kernel enforces any more. Limits of kernel memory (`kernel`,
/// `kernelTCP`; gone since Linux 5.16) are passed over, as runc and crun do, because engines send them: kernel
/// memory counts for the limit of all memory.
pub(super) fn refuse_flat_memory(m: &LinuxMemory, at: &str) -> Result<(), CgroupError> {
    if m.use_hierarchy() == Some(false) {
        return Err(unsupported(
            format!("{at}.memory.useHierarchy"),
            "memory is always accounted hierarchically since Linux 5.11; remove it",
        ));
    }
    Ok(())
}

pub(super) fn memory(m: &LinuxMemory, at: &str) -> Limits {
    refuse_flat_memory(m, at)?;
    let name = |key: &str| format!("{at}.memory.{key}");
    let limit = bytes(m.limit(), &name("limit"))?;
    let swap = bytes(m.swap(), &name("swap"))?;
    check_swap(limit, swap, &name("swap"))?;
    let mut out = Vec::new();
    if let Some(limit) = limit {
        out.push(Limit::one(name("limit"), "memory.limit_in_bytes", limit));
    }
    if let Some(swap) = swap {
        out.push(Limit::one(
            name("swap"),
            "memory.memsw.limit_in_bytes",
            swap,
        ));
    }
    if let Some(value) = bytes(m.reservation(), &name("reservation"))? {
        out.push(Limit::one(
            name("reservation"),
            "memory.soft_limit_in_bytes",
            value,
        ));
    }
    if let Some(value) = swappiness(m) {
        if value > 100 {
            return Err(unsupported(
                name("swappiness"),
                format!("{value} is not in 0..=100"),
            ));
        }
        out.push(Limit::one(name("swappiness"), "memory.swappiness", value));
    }
    if m.disable_oom_killer() == Some(true) {
        out.push(Limit::one(
            name("disableOOMKiller"),
            "memory.oom_control",
            1,
        ));
    }
    Ok(out)
}

/// Docker says -1 for "not set", which arrives as the largest number.
pub(super) fn swappiness(m: &LinuxMemory) -> Option<u64> {
    m.swappiness().filter(|value| *value != u64::MAX)
}

/// `swap` is the sum of memory and swap, so it needs a memory limit and cannot be below it.
pub(super) fn check_swap(
    limit: Option<i64>,
    swap: Option<i64>,
    setting: &str,
) -> Result<(), CgroupError> {
    match (limit, swap) {
        (_, None | Some(-1)) => Ok(()),
        (None | Some(-1), Some(_)) => Err(unsupported(
            setting.to_owned(),
            "a limit of memory plus swap needs memory.limit too; set it",
        )),
        (Some(limit), Some(swap)) if swap < limit => Err(unsupported(
            setting.to_owned(),
            format!("{swap} is memory plus swap and cannot be below memory.limit ({limit})"),
        )),
        _ => Ok(()),
    }
}

pub(super) fn cpu(cpu: &LinuxCpu, at: &str) -> Limits {
    let name = |key: &str| format!("{at}.cpu.{key}");
    let mut out = Vec::new();
    let mut add = |key: &str, file: &str, value: Option<String>| {
        out.extend(value.map(|value| Limit::one(name(key), file, value)));
    };
    let positive = |v: Option<u64>| v.filter(|v| *v > 0).map(|v| v.to_string());
    let signed = |v: Option<i64>| v.filter(|v| *v != 0).map(|v| v.to_string());
    add("shares", "cpu.shares", positive(cpu.shares()));
    add("period", "cpu.cfs_period_us", positive(cpu.period()));
    add("quota", "cpu.cfs_quota_us", signed(cpu.quota()));
    add(
        "burst",
        "cpu.cfs_burst_us",
        cpu.burst().map(|v| v.to_string()),
    );
    add(
        "realtimePeriod",
        "cpu.rt_period_us",
        positive(cpu.realtime_period()),
    );
    add(
        "realtimeRuntime",
        "cpu.rt_runtime_us",
        signed(cpu.realtime_runtime()),
    );
    add("idle", "cpu.idle", cpu.idle().map(|v| v.to_string()));
    Ok(out)
}

/// The same on v2.
pub(super) fn cpuset(cpu: &LinuxCpu, at: &str) -> Limits {
    let mut out = Vec::new();
    for (key, file, value) in [
        ("cpus", "cpuset.cpus", cpu.cpus()),
        ("mems", "cpuset.mems", cpu.mems()),
    ] {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else {
            continue;
        };
        let setting = format!("{at}.cpu.{key}");
        if !value
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b',' || b == b'-')
        {
            return Err(unsupported(
                setting,
                format!("{value:?} is not a list such as 0-3,7"),
            ));
        }
        out.push(Limit::one(setting, file, value));
    }
    Ok(out)
}

/// The same on v2. Anything that is not positive is "max", as engines mean it.
pub(super) fn pids(pids: &LinuxPids, at: &str) -> Limits {
    let value = match pids.limit() {
        ..=0 => "max".to_owned(),
        limit => limit.to_string(),
    };
    Ok(vec![Limit::one(
        format!("{at}.pids.limit"),
        "pids.max",
        value,
    )])
}

pub(super) fn check_weight(weight: u16, setting: &str) -> Result<(), CgroupError> {
    if (10..=1000).contains(&weight) {
        return Ok(());
    }
    Err(unsupported(
        setting.to_owned(),
        format!("{weight} is not in 10..=1000"),
    ))
}

pub(super) fn block_io(io: &LinuxBlockIo, at: &str) -> Limits {
    let name = |key: &str| format!("{at}.blockIO.{key}");
    let mut out = Vec::new();
    if let Some(weight) = io.weight().filter(|w| *w > 0) {
        check_weight(weight, &name("weight"))?;
        out.push(Limit {
            setting: name("weight"),
            choices: both("blkio.weight", "blkio.bfq.weight", &weight.to_string()),
            optional: false,
        });
    }
    if let Some(weight) = io.leaf_weight().filter(|w| *w > 0) {
        check_weight(weight, &name("leafWeight"))?;
        out.push(Limit::one(name("leafWeight"), "blkio.leaf_weight", weight));
    }
    for device in io.weight_device().iter().flatten() {
        let setting = name("weightDevice");
        let at = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            check_weight(weight, &setting)?;
            out.push(Limit {
                setting: setting.clone(),
                choices: both(
                    "blkio.weight_device",
                    "blkio.bfq.weight_device",
                    &format!("{at} {weight}"),
                ),
                optional: false,
            });
        }
        if let Some(weight) = device.leaf_weight() {
            check_weight(weight, &setting)?;
            let value = format!("{at} {weight}");
            out.push(Limit::one(setting, "blkio.leaf_weight_device", value));
        }
    }
    for (key, file, _, devices) in throttles(io) {
        for device in devices {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            out.push(Limit::one(name(key), file, value));
        }
    }
    Ok(out)
}

/// The four throttles: key in config.json, v1 file, v2 word, devices.
pub(super) fn throttles(
    io: &LinuxBlockIo,
) -> [(
    &'static str,
    &'static str,
    &'static str,
    &[LinuxThrottleDevice],
); 4] {
    fn list(of: &Option<Vec<LinuxThrottleDevice>>) -> &[LinuxThrottleDevice] {
        of.as_deref().unwrap_or_default()
    }
    [
        (
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
            list(io.throttle_read_bps_device()),
        ),
        (
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
            list(io.throttle_write_bps_device()),
        ),
        (
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
            list(io.throttle_read_iops_device()),
        ),
        (
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
            list(io.throttle_write_iops_device()),
        ),
    ]
}

fn both(first: &str, second: &str, value: &str) -> Vec<(String, String)> {
    vec![
        (first.to_owned(), value.to_owned()),
        (second.to_owned(), value.to_owned()),
    ]
}

/// A page size becomes part of a file name, so it must look like one: `64KB`, `2MB`, `1GB`.
pub(super) fn check_page_size(size: &str, at: &str) -> Result<(), CgroupError> {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| size.strip_suffix(unit));
    if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(());
    }
    Err(unsupported(
        format!("{at}.hugepageLimits.pageSize"),
        format!("{size:?} is not a page size such as 2MB"),
    ))
}

pub(super) fn hugetlb(pages: &[LinuxHugepageLimit], at: &str) -> Limits {
    let mut out = Vec::new();
    for page in pages {
        check_page_size(page.page_size(), at)?;
        let setting = format!("{at}.hugepageLimits[{}]", page.page_size());
        for (infix, optional) in [("", false), (".rsvd", true)] {
            let file = format!("hugetlb.{}{infix}.limit_in_bytes", page.page_size());
            out.push(Limit {
                optional,
                ..Limit::one(setting.clone(), file, page.limit())
            });
        }
    }
    Ok(out)
}

/// The same on v2.
pub(super) fn rdma(devices: &HashMap<String, LinuxRdma>, at: &str) -> Limits {
    let mut devices: Vec<_> = devices.iter().collect();
    devices.sort_by_key(|(name, _)| *name);
    let mut out = Vec::new();
    for (device, limits) in devices {
        let setting = format!("{at}.rdma[{device:?}]");
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(unsupported(setting, "not the name of a device"));
        }
        let mut value = device.clone();
        if let Some(handles) = limits.hca_handles() {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects() {
            value += &format!(" hca_object={objects}");
        }
        out.push(Limit::one(setting, "rdma.max", value));
    }
    Ok(out)
}

pub(super) fn net_cls(network: &LinuxNetwork, at: &str) -> Limits {
    let setting = format!("{at}.network.classID");
    Ok(network
        .class_id()
        .filter(|id| *id != 0)
        .map(|id| Limit::one(setting, "net_cls.classid", id))
        .into_iter()
        .collect())
}

pub(super) fn net_prio(network: &LinuxNetwork, at: &str) -> Limits {
    let mut out = Vec::new();
    for entry in network.priorities().iter().flatten() {
        let setting = format!("{at}.network.priorities");
        if entry.name().is_empty() || entry.name().contains(char::is_whitespace) {
            return Err(unsupported(
                setting,
                format!("{:?} is no interface", entry.name()),
            ));
        }
        let value = format!("{} {}", entry.name(), entry.priority());
        out.push(Limit::one(setting, "net_prio.ifpriomap", value));
    }
    Ok(out)
}
