//! The plan of a scope: its name, its place and its properties. Pure.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;

use super::{SystemdError, Value};
use crate::cgroup::cpu_weight;

/// Annotations with this prefix are properties of the scope.
const ANNOTATION: &str = "org.systemd.property.";
/// "infinity" of systemd.
const INFINITY: u64 = u64::MAX;
/// The quota period of the kernel and of systemd, in microseconds.
const PERIOD: u64 = 100_000;

/// One property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name (systemd.resource-control(5), systemd.scope(5)).
    pub name: String,
    /// Its value.
    pub value: Value,
    /// An older systemd may not know it, and it can be done without.
    pub optional: bool,
}

impl Property {
    /// A property that has to be there.
    pub fn new(name: impl Into<String>, value: Value) -> Property {
        Property {
            name: name.into(),
            value,
            optional: false,
        }
    }

    fn optional(name: &str, value: Value) -> Property {
        Property {
            optional: true,
            ..Property::new(name, value)
        }
    }
}

/// A scope to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The slice that it is in, such as `machine.slice`.
    pub slice: String,
    /// The unit, such as `libpod-1234.scope`.
    pub unit: String,
    /// The manager of the calling user makes it, not that of the system.
    pub user: bool,
    /// All its properties but the process.
    pub properties: Vec<Property>,
}

/// What a scope is planned from.
#[derive(Debug, Clone, Copy)]
pub struct ScopeRequest<'a> {
    /// The container.
    pub id: &'a str,
    /// `linux.cgroupsPath`: `slice:prefix:name`; the slice may be empty.
    pub cgroups_path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// The annotations of the configuration.
    pub annotations: &'a BTreeMap<String, String>,
    /// The manager of the calling user (without privileges).
    pub user: bool,
    /// Only v2 is mounted: properties have other names on v1.
    pub v2: bool,
}

impl Scope {
    /// Plan the scope of a container.
    ///
    /// # Errors
    /// When the path, an annotation or a limit makes no sense to systemd.
    pub fn plan(request: &ScopeRequest<'_>) -> Result<Scope, SystemdError> {
        let (slice, unit) = names(request)?;
        let mut properties = vec![
            Property::new(
                "Description",
                Value::Str(format!("metactl container {}", request.id)),
            ),
            Property::new("Slice", Value::Str(slice.clone())),
            Property::new("Delegate", Value::Bool(true)),
            Property::new("DefaultDependencies", Value::Bool(false)),
            // A scope whose last process fails would stay for somebody to look at.
            Property::optional("CollectMode", Value::Str("inactive-or-failed".into())),
        ];
        let io = if request.v2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        for name in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io] {
            properties.push(Property::optional(name, Value::Bool(true)));
        }
        if let Some(resources) = request.resources {
            properties.extend(resource_properties(resources, request.v2)?);
        }
        for property in annotated(request.annotations)? {
            properties.retain(|old| old.name != property.name);
            properties.push(property);
        }
        Ok(Scope {
            slice,
            unit,
            user: request.user,
            properties,
        })
    }

    /// Its place in every hierarchy, below the manager's own cgroup `root` (empty for that of the
    /// system): what takes the place of `linux.cgroupsPath` from then on.
    pub fn cgroup_path(&self, root: &str) -> String {
        let mut path = root.trim_end_matches('/').to_owned();
        // `a-b.slice` is below `a.slice` (systemd.slice(5)).
        let name = self.slice.strip_suffix(".slice").unwrap_or_default();
        if name != "-" {
            for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
                path += &format!("/{}.slice", &name[..at]);
            }
        }
        path + "/" + &self.unit
    }
}

/// Slice and unit.
fn names(request: &ScopeRequest<'_>) -> Result<(String, String), SystemdError> {
    let path = request.cgroups_path.unwrap_or_default();
    let bad = |why| SystemdError::BadPath {
        path: path.to_owned(),
        why,
    };
    let (slice, prefix, name) = if path.is_empty() {
        ("", "metactl", request.id)
    } else {
        let mut parts = path.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
            _ => return Err(bad("it does not have three parts with colons between them")),
        }
    };
    let slice = match slice {
        "" if request.user => "user.slice",
        "" => "system.slice",
        slice => slice,
    };
    check_slice(slice).map_err(bad)?;
    if name.is_empty() {
        return Err(bad("the name is empty"));
    }
    if [".slice", ".service"].iter().any(|end| name.ends_with(end)) {
        return Err(bad("a container is a scope, not a slice or a service"));
    }
    let stem = if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}-{name}")
    };
    let unit = format!("{stem}.scope");
    check_unit(&unit).map_err(bad)?;
    Ok((slice.to_owned(), unit))
}

/// systemd.unit(5), "String Escaping for Inclusion in Unit Names": what a name may hold.
fn check_unit(unit: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    if !unit.bytes().all(plain) {
        return Err("a unit name has letters, digits and :-_.\\@ only");
    }
    if unit.len() > 255 {
        return Err("the unit name is longer than 255 bytes");
    }
    Ok(())
}

fn check_slice(slice: &str) -> Result<(), &'static str> {
    check_unit(slice)?;
    let name = slice
        .strip_suffix(".slice")
        .ok_or("the slice does not end in .slice")?;
    let empty = name.split('-').any(str::is_empty);
    if name != "-" && (empty || name.contains(':')) {
        return Err("the slice has an empty part between its dashes");
    }
    Ok(())
}

/// The limits as properties, as far as systemd knows them. All can be done without, since the
/// control files are written too.
///
/// # Errors
/// When a list of CPUs makes no sense.
pub fn resource_properties(r: &LinuxResources, v2: bool) -> Result<Vec<Property>, SystemdError> {
    let mut list = Vec::new();
    let mut add = |name: &str, value: Option<Value>| {
        list.extend(value.map(|value| Property::optional(name, value)));
    };
    let limit = |value: Option<i64>| match value {
        None | Some(0) => None,
        Some(value) => Some(Value::U64(u64::try_from(value).unwrap_or(INFINITY))),
    };
    if let Some(memory) = r.memory() {
        if v2 {
            add("MemoryMax", limit(memory.limit()));
            add("MemoryLow", limit(memory.reservation()));
            let swap = match (memory.limit(), memory.swap()) {
                (Some(limit), Some(swap)) if limit > 0 && swap > 0 => Some(swap - limit),
                (_, swap) => swap,
            };
            // No swap at all is a limit, too.
            let none = memory.swap() == memory.limit() && memory.swap().is_some_and(|s| s > 0);
            add(
                "MemorySwapMax",
                if none {
                    Some(Value::U64(0))
                } else {
                    limit(swap)
                },
            );
        } else {
            add("MemoryLimit", limit(memory.limit()));
        }
    }
    if let Some(cpu) = r.cpu() {
        let shares = cpu.shares().filter(|shares| *shares > 0);
        if v2 {
            add("CPUWeight", shares.map(|s| Value::U64(cpu_weight(s))));
        } else {
            add("CPUShares", shares.map(Value::U64));
        }
        let period = cpu.period().filter(|period| *period > 0);
        add("CPUQuotaPeriodUSec", period.map(Value::U64));
        let quota = cpu.quota().filter(|quota| *quota != 0);
        if quota.is_some() || period.is_some() {
            let per_second = per_second(quota.unwrap_or(-1), period.unwrap_or(PERIOD));
            add("CPUQuotaPerSecUSec", Some(Value::U64(per_second)));
        }
        for (name, key, text) in [
            ("AllowedCPUs", "cpus", cpu.cpus()),
            ("AllowedMemoryNodes", "mems", cpu.mems()),
        ] {
            if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                let bits = bits(text).ok_or_else(|| SystemdError::BadResource {
                    setting: format!("linux.resources.cpu.{key}"),
                    why: format!("{text:?} is not a list such as 0-3,7"),
                })?;
                add(name, Some(Value::Bytes(bits)));
            }
        }
    }
    if let Some(pids) = r.pids() {
        let tasks = u64::try_from(pids.limit()).ok().filter(|limit| *limit > 0);
        let tasks = tasks.unwrap_or(INFINITY);
        add("TasksMax", Some(Value::U64(tasks)));
    }
    for (file, value) in r.unified().iter().flatten().filter(|_| v2) {
        for property in unified(file, value) {
            list.retain(|old: &Property| old.name != property.name);
            list.push(property);
        }
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

/// Control files that have a property. What cannot be understood is left to the kernel.
fn unified(file: &str, value: &str) -> Vec<Property> {
    let value = value.trim();
    let number = |name: &str| {
        let number = if value == "max" {
            Some(INFINITY)
        } else {
            value.parse().ok()
        };
        let number = number.map(|n: u64| Property::optional(name, Value::U64(n)));
        number.into_iter().collect()
    };
    let set = |name: &str| {
        let bits = bits(value).map(|bits| Property::optional(name, Value::Bytes(bits)));
        bits.into_iter().collect()
    };
    match file {
        "cpu.weight" => number("CPUWeight"),
        "memory.min" => number("MemoryMin"),
        "memory.low" => number("MemoryLow"),
        "memory.high" => number("MemoryHigh"),
        "memory.max" => number("MemoryMax"),
        "memory.swap.max" => number("MemorySwapMax"),
        "pids.max" if value != "0" => number("TasksMax"),
        "cpuset.cpus" => set("AllowedCPUs"),
        "cpuset.mems" => set("AllowedMemoryNodes"),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let quota = words.next().map(|word| word.parse().unwrap_or(-1));
            let period = words.next().map_or(Some(PERIOD), |word| word.parse().ok());
            let (Some(quota), Some(period)) = (quota, period.filter(|p| *p > 0)) else {
                return Vec::new();
            };
            let quota = Value::U64(per_second(quota, period));
            vec![
                Property::optional("CPUQuotaPeriodUSec", Value::U64(period)),
                Property::optional("CPUQuotaPerSecUSec", quota),
            ]
        }
        _ => Vec::new(),
    }
}

/// CPU time for each second, in microseconds. systemd keeps whole percents, so it is rounded up
/// to the next: what it writes must not be below what is asked for.
fn per_second(quota: i64, period: u64) -> u64 {
    match u64::try_from(quota) {
        Ok(quota) if quota > 0 => (quota.saturating_mul(1_000_000) / period)
            .div_ceil(10_000)
            .saturating_mul(10_000),
        _ => INFINITY,
    }
}

/// A list of CPUs or nodes as bits, the first CPU being the lowest bit of the first byte.
fn bits(list: &str) -> Option<Vec<u8>> {
    /// More than any kernel has.
    const MAX: usize = 1 << 16;
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MAX {
            return None;
        }
        if bits.len() <= last / 8 {
            bits.resize(last / 8 + 1, 0);
        }
        for cpu in first..=last {
            bits[cpu / 8] |= 1 << (cpu % 8);
        }
    }
    (!bits.is_empty()).then_some(bits)
}

/// Properties from annotations. Times in `...Sec` become `...USec`, which is what D-Bus has.
fn annotated(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, SystemdError> {
    let mut list = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else {
            continue;
        };
        let bad = |why: String| SystemdError::BadProperty {
            name: name.to_owned(),
            why,
        };
        // As in runc, the shortest that there are have three letters.
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(bad("not the name of a property".into()));
        }
        let value = Value::parse(text).map_err(bad)?;
        let seconds = name.strip_suffix("Sec").filter(|n| !n.ends_with('U'));
        list.push(match seconds {
            None => Property::new(name, value),
            Some(stem) => {
                let value = microseconds(&value).ok_or_else(|| {
                    bad("not a number of seconds (int32, int64, uint32 or uint64)".into())
                })?;
                Property::new(format!("{stem}USec"), Value::U64(value))
            }
        });
    }
    Ok(list)
}

fn microseconds(seconds: &Value) -> Option<u64> {
    let seconds = match seconds {
        Value::U32(n) => u64::from(*n),
        Value::U64(n) => *n,
        Value::I32(n) => u64::try_from(*n).ok()?,
        Value::I64(n) => u64::try_from(*n).ok()?,
        _ => return None,
    };
    seconds.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(path: Option<&str>, json: &str, annotations: &[(&str, &str)]) -> Result<Scope, String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let annotations = annotations
            .iter()
            .map(|(k, v)| (format!("org.systemd.property.{k}"), (*v).to_owned()))
            .collect();
        let request = ScopeRequest {
            id: "web",
            cgroups_path: path,
            resources: Some(&resources),
            annotations: &annotations,
            user: false,
            v2: true,
        };
        Scope::plan(&request).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_places() {
        for (path, unit, place) in [
            (None, "metactl-web.scope", "/system.slice/metactl-web.scope"),
            (
                Some(""),
                "metactl-web.scope",
                "/system.slice/metactl-web.scope",
            ),
            (
                Some("machine.slice:libpod:12"),
                "libpod-12.scope",
                "/machine.slice/libpod-12.scope",
            ),
            (
                Some("a-b-c.slice::x"),
                "x.scope",
                "/a.slice/a-b.slice/a-b-c.slice/x.scope",
            ),
            (Some("-.slice:p:x"), "p-x.scope", "/p-x.scope"),
        ] {
            let scope = plan(path, "{}", &[]).unwrap();
            assert_eq!(scope.unit, unit);
            assert_eq!(scope.cgroup_path(""), place);
        }
        let scope = plan(Some("a.slice:p:x"), "{}", &[]).unwrap();
        assert_eq!(
            scope.cgroup_path("/user.slice"),
            "/user.slice/a.slice/p-x.scope"
        );
        for bad in [
            "/metactl/web",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a.slice:b:",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b:../c",
            "a.slice:b:c d",
            "a.slice:b:c.slice",
            ".slice:b:c",
        ] {
            let error = plan(Some(bad), "{}", &[]).unwrap_err();
            assert!(error.contains("slice:prefix:name"), "{bad}: {error}");
        }
    }

    fn properties(json: &str, v2: bool) -> String {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let list = resource_properties(&resources, v2).unwrap();
        let words = list.iter().map(|p| format!("{}={:?}", p.name, p.value));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn limits_become_properties() {
        let json = r#"{"memory":{"limit":1000,"swap":1500,"reservation":500},"pids":{"limit":0},
            "cpu":{"shares":1024,"quota":30001,"period":50000,"cpus":"0-2,9"}}"#;
        assert_eq!(
            properties(json, true),
            "AllowedCPUs=Bytes([7, 2]) CPUQuotaPerSecUSec=U64(610000) CPUQuotaPeriodUSec=U64(50000) \
             CPUWeight=U64(100) MemoryLow=U64(500) MemoryMax=U64(1000) MemorySwapMax=U64(500) \
             TasksMax=U64(18446744073709551615)"
        );
        assert_eq!(
            properties(json, false),
            "AllowedCPUs=Bytes([7, 2]) CPUQuotaPerSecUSec=U64(610000) CPUQuotaPeriodUSec=U64(50000) \
             CPUShares=U64(1024) MemoryLimit=U64(1000) TasksMax=U64(18446744073709551615)"
        );
        let json = r#"{"memory":{"limit":-1,"swap":-1},"pids":{"limit":-1},"cpu":{"quota":-1}}"#;
        assert_eq!(
            properties(json, true),
            format!(
                "CPUQuotaPerSecUSec=U64({0}) MemoryMax=U64({0}) MemorySwapMax=U64({0}) \
                 TasksMax=U64({0})",
                u64::MAX
            )
        );
        let json = r#"{"memory":{"limit":5,"swap":5},
            "unified":{"memory.max":"7","cpu.max":"max 200000","pids.max":"9","io.max":"8:0 x"}}"#;
        assert_eq!(
            properties(json, true),
            format!(
                "CPUQuotaPerSecUSec=U64({}) CPUQuotaPeriodUSec=U64(200000) MemoryMax=U64(7) \
                 MemorySwapMax=U64(0) TasksMax=U64(9)",
                u64::MAX
            )
        );
    }

    #[test]
    fn annotations_become_properties() {
        let all = [
            ("TimeoutStopSec", "uint64 5"),
            ("CollectMode", "'inactive'"),
        ];
        let scope = plan(None, "{}", &all).unwrap();
        let value = |name: &str| {
            let mut found = scope.properties.iter().filter(|p| p.name == name);
            let value = found.next().map(|p| p.value.clone());
            assert!(found.next().is_none(), "{name} twice");
            value
        };
        assert_eq!(value("TimeoutStopUSec"), Some(Value::U64(5_000_000)));
        assert_eq!(value("CollectMode"), Some(Value::Str("inactive".into())));
        assert_eq!(value("Delegate"), Some(Value::Bool(true)));
        for (name, text) in [
            ("TimeoutStopSec", "'x'"),
            ("x", "true"),
            ("A b c", "true"),
            ("Abc", "?"),
        ] {
            assert!(plan(None, "{}", &[(name, text)]).is_err(), "{name}");
        }
    }
}
