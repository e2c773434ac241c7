//! The control files of cgroup v2 (kernel documentation, admin-guide/cgroup-v2), and how the
//! settings of OCI, which were made for v1, are converted (runtime-spec, config-linux; runc).

use super::v1::{
    Limits, bytes, check_page_size, check_swap, check_weight, refuse_flat_memory, swappiness,
    throttles, unsupported,
};
use super::wanted::Limit;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork};

/// CPU shares 2..=262144 to weight 1..=10000, so that the least, the most and the default (1024
/// and 100) are the same in both: what runc and crun do since 2025.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1.0 to 10,000.99
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let l = f64::log2(shares as f64);
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // Rounded up, but for what is only noise of the arithmetic.
            (10f64.powf(exponent) + 0.99).floor() as u64
        }
    }
}

/// Block I/O weight 10..=1000 to `io.weight` 1..=10000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9_999 / 990
}

fn max_or(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

pub(super) fn memory(m: &LinuxMemory, at: &str) -> Limits {
    refuse_flat_memory(m, at)?;
    let name = |key: &str| format!("{at}.memory.{key}");
    let limit = bytes(m.limit(), &name("limit"))?;
    let swap = bytes(m.swap(), &name("swap"))?;
    if limit != Some(-1) {
        check_swap(limit, swap, &name("swap"))?;
    }
    let mut out = Vec::new();
    // On v2 swap is a limit of its own; OCI's is memory plus swap. With unlimited memory the sum
    // means nothing, and it is taken for swap alone, as in runc.
    let own_swap = match (limit, swap) {
        (_, Some(-1)) => Some("max".to_owned()),
        (Some(-1), Some(swap)) => Some(swap.to_string()),
        (Some(limit), Some(swap)) => Some((swap - limit).to_string()),
        _ => None,
    };
    if let Some(value) = own_swap {
        out.push(Limit::one(name("swap"), "memory.swap.max", value));
    }
    if let Some(limit) = limit {
        out.push(Limit::one(name("limit"), "memory.max", max_or(limit)));
    }
    if let Some(value) = bytes(m.reservation(), &name("reservation"))? {
        out.push(Limit::one(name("reservation"), "memory.low", max_or(value)));
    }
    if swappiness(m).is_some() {
        return Err(unsupported(
            name("swappiness"),
            "cgroup v2 has no swappiness; remove it",
        ));
    }
    if m.disable_oom_killer() == Some(true) {
        let why = "cgroup v2 cannot disable the OOM killer; remove it";
        return Err(unsupported(name("disableOOMKiller"), why));
    }
    Ok(out)
}

pub(super) fn cpu(cpu: &LinuxCpu, at: &str) -> Limits {
    let name = |key: &str| format!("{at}.cpu.{key}");
    for (key, set) in [
        (
            "realtimeRuntime",
            cpu.realtime_runtime().is_some_and(|v| v != 0),
        ),
        (
            "realtimePeriod",
            cpu.realtime_period().is_some_and(|v| v != 0),
        ),
    ] {
        if set {
            let why = "cgroup v2 has no real-time limits; remove it";
            return Err(unsupported(name(key), why));
        }
    }
    let mut out = Vec::new();
    if let Some(shares) = cpu.shares().filter(|v| *v > 0) {
        out.push(Limit::one(name("shares"), "cpu.weight", cpu_weight(shares)));
    }
    let quota = cpu.quota().filter(|v| *v != 0);
    let period = cpu.period().filter(|v| *v > 0);
    if quota.is_some() || period.is_some() {
        let value = format!(
            "{} {}",
            max_or(quota.unwrap_or(-1)),
            period.unwrap_or(100_000)
        );
        let key = if quota.is_some() { "quota" } else { "period" };
        out.push(Limit::one(name(key), "cpu.max", value));
    }
    if let Some(burst) = cpu.burst() {
        out.push(Limit::one(name("burst"), "cpu.max.burst", burst));
    }
    if let Some(idle) = cpu.idle() {
        out.push(Limit::one(name("idle"), "cpu.idle", idle));
    }
    Ok(out)
}

pub(super) fn block_io(io: &LinuxBlockIo, at: &str) -> Limits {
    let name = |key: &str| format!("{at}.blockIO.{key}");
    let leaf = "cgroup v2 has no leaf weights; remove it";
    if io.leaf_weight().is_some_and(|w| w > 0) {
        return Err(unsupported(name("leafWeight"), leaf));
    }
    let mut out = Vec::new();
    if let Some(weight) = io.weight().filter(|w| *w > 0) {
        check_weight(weight, &name("weight"))?;
        out.push(Limit {
            setting: name("weight"),
            choices: vec![
                ("io.bfq.weight".into(), weight.to_string()),
                ("io.weight".into(), format!("default {}", io_weight(weight))),
            ],
            optional: false,
        });
    }
    for device in io.weight_device().iter().flatten() {
        let setting = name("weightDevice");
        if device.leaf_weight().is_some() {
            return Err(unsupported(setting, leaf));
        }
        let Some(weight) = device.weight() else {
            continue;
        };
        check_weight(weight, &setting)?;
        let at = format!("{}:{}", device.major(), device.minor());
        out.push(Limit {
            setting,
            choices: vec![
                ("io.bfq.weight".into(), format!("{at} {weight}")),
                ("io.weight".into(), format!("{at} {}", io_weight(weight))),
            ],
            optional: false,
        });
    }
    for (key, _, word, devices) in throttles(io) {
        for device in devices {
            let value = format!(
                "{}:{} {word}={}",
                device.major(),
                device.minor(),
                device.rate()
            );
            out.push(Limit::one(name(key), "io.max", value));
        }
    }
    Ok(out)
}

pub(super) fn hugetlb(pages: &[LinuxHugepageLimit], at: &str) -> Limits {
    let mut out = Vec::new();
    for page in pages {
        check_page_size(page.page_size(), at)?;
        let setting = format!("{at}.hugepageLimits[{}]", page.page_size());
        for (infix, optional) in [("", false), (".rsvd", true)] {
            let file = format!("hugetlb.{}{infix}.max", page.page_size());
            out.push(Limit {
                optional,
                ..Limit::one(setting.clone(), file, page.limit())
            });
        }
    }
    Ok(out)
}

/// v2 has neither net_cls nor net_prio.
pub(super) fn no_network(network: &LinuxNetwork, at: &str) -> Limits {
    let asked = network.class_id().is_some_and(|id| id != 0)
        || network.priorities().as_ref().is_some_and(|p| !p.is_empty());
    if asked {
        let why = "cgroup v2 has no net_cls and net_prio; remove it";
        return Err(unsupported(format!("{at}.network"), why));
    }
    Ok(Vec::new())
}

/// The controller of a file named in `linux.resources.unified`; nothing for the files that every
/// cgroup has.
pub(super) fn controller_of(file: &str) -> Result<Option<&str>, String> {
    const CORE: [&str; 3] = [
        "cgroup.max.depth",
        "cgroup.max.descendants",
        "cgroup.pressure",
    ];
    if CORE.contains(&file) {
        return Ok(None);
    }
    let plain = file
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match file.split_once('.') {
        Some(("cgroup", _)) => Err(format!(
            "it belongs to the runtime; only {} can be set",
            CORE.join(", ")
        )),
        Some((controller, rest)) if plain && !controller.is_empty() && !rest.is_empty() => {
            Ok(Some(controller))
        }
        _ => Err("not the name of a control file such as memory.high".to_owned()),
    }
}
