//! Keys that are written in other letters than the specification's.

use serde_json::Value;

/// The keys of `LinuxResources` whose spelling engines written in Go take lightly: their JSON
/// reader does not mind capital letters.
pub(crate) fn resources(resources: &mut Value) {
    const SECTIONS: &[&str] = &[
        "memory",
        "cpu",
        "pids",
        "blockIO",
        "network",
        "hugepageLimits",
        "unified",
        "devices",
        "rdma",
    ];
    const KEYS: &[&str] = &[
        "limit",
        "reservation",
        "swap",
        "kernel",
        "kernelTCP",
        "swappiness",
        "disableOOMKiller",
        "useHierarchy",
        "checkBeforeUpdate",
        "shares",
        "quota",
        "burst",
        "period",
        "realtimeRuntime",
        "realtimePeriod",
        "cpus",
        "mems",
        "idle",
        "weight",
        "leafWeight",
        "weightDevice",
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
        "classID",
        "priorities",
    ];
    const PAGE_KEYS: &[&str] = &["pageSize", "limit"];
    respell(resources, SECTIONS);
    for section in ["memory", "cpu", "pids", "blockIO", "network"] {
        if let Some(value) = resources.get_mut(section) {
            respell(value, KEYS);
        }
    }
    let limits = resources.get_mut("hugepageLimits");
    for limit in limits.and_then(Value::as_array_mut).into_iter().flatten() {
        respell(limit, PAGE_KEYS);
    }
}

fn respell(value: &mut Value, known: &[&str]) {
    let Some(map) = value.as_object_mut() else {
        return;
    };
    for (key, value) in std::mem::take(map) {
        let known = known.iter().find(|name| name.eq_ignore_ascii_case(&key));
        map.insert(known.map_or(key, ToString::to_string), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn capital_letters_of_keys_do_not_matter() {
        let mut value = json!({"CPU": {"Cpus": "1"}, "blockio": {"Weight": 5}, "x": 1,
            "hugepagelimits": [{"pagesize": "2MB", "Limit": 1}]});
        resources(&mut value);
        let want = json!({"cpu": {"cpus": "1"}, "blockIO": {"weight": 5}, "x": 1,
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}]});
        assert_eq!(value, want);
    }
}
