//! Profiles as large as those of engines.

use super::*;
use serde_json::{Value, json};

/// Half a table of names, with the rules on arguments that engines' profiles have, for three
/// architectures.
pub(super) fn large(default: &str, known: impl Fn(&str) -> bool) -> LinuxSeccomp {
    let special = ["clone", "personality", "socket", "ptrace", "mmap", "select"];
    let names: Vec<&str> = X86_64
        .calls
        .iter()
        .enumerate()
        .filter(|(row, (name, _))| row % 7 != 3 && !special.contains(name) && known(name))
        .map(|(_, (name, _))| *name)
        .take(380)
        .chain(["socketcall", "ipc", "mmap", "select", "write"])
        .collect();
    assert!(names.len() > 300, "{}", names.len());
    let arg = |index: usize, op: &str, value: u64, two: u64| json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two});
    let rule = |name: &str, args: Value| json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args});
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(rule("personality", json!([arg(0, "EQ", value, 0)])));
    }
    rules.push(rule("clone", json!([arg(0, "MASKED_EQ", 0x7e02_0000, 0)])));
    rules.push(rule("socket", json!([arg(0, "NE", 40, 0)])));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    let json = json!({
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn the_default_profile_is_short_and_means_what_it_says() {
    let profile = metactl_bundles::seccomp::default_profile().unwrap();
    agree(&profile).unwrap();
    let length = compile(&profile, &X86_64).unwrap().instructions.len();
    eprintln!("default profile: {length} instructions");
    assert!(length <= 320, "{length} instructions");
}

/// How many instructions a call without arguments takes.
fn steps(program: &[sock_filter], arch: u32, number: u32) -> usize {
    let (mut at, mut value) = (0, 0);
    for steps in 1.. {
        let i = &program[at];
        let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        at += 1;
        match i.code {
            0x20 => value = [number, arch, 0][(i.k as usize / 4).min(2)],
            0x54 => value &= i.k,
            0x15 => at += jump(value == i.k),
            0x25 => at += jump(value > i.k),
            0x35 => at += jump(value >= i.k),
            0x05 => at += i.k as usize,
            _ => return steps,
        }
    }
    unreachable!()
}

#[test]
fn other_architectures_make_a_profile_longer_but_not_slower() {
    let three = large("SCMP_ACT_ERRNO", |_| true);
    agree(&three).unwrap();
    let mut native = three.clone();
    native.set_architectures(None);
    agree(&native).unwrap();
    let [three, native] =
        [three, native].map(|section| compile(&section, &X86_64).unwrap().instructions);
    eprintln!(
        "380 calls: {} instructions, {} for three architectures",
        native.len(),
        three.len()
    );
    assert!(native.len() <= 260, "{}", native.len());
    assert!(three.len() <= 700, "{}", three.len());
    let slowest = |program: &[sock_filter], numbers: std::ops::Range<u32>| {
        numbers
            .map(|number| steps(program, NATIVE, number))
            .max()
            .unwrap()
    };
    let [alone, beside] = [&native, &three].map(|program| slowest(program, 0..480));
    eprintln!("the slowest native call takes {alone} instructions, {beside} beside the others");
    // Far jumps may cost one.
    assert!(beside <= alone + 1, "{beside} {alone}");
}

#[test]
fn a_profile_of_three_hundred_calls_is_short() {
    let names: Vec<&str> = X86_64
        .calls
        .iter()
        .map(|(name, _)| *name)
        .take(300)
        .collect();
    let json = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    });
    let section: LinuxSeccomp = serde_json::from_value(json).unwrap();
    agree(&section).unwrap();
    let length = compile(&section, &X86_64).unwrap().instructions.len();
    eprintln!("300 calls: {length} instructions");
    assert!(length <= 200, "{length} instructions");
}

/// Engines keep one profile for all machines and capabilities, and write out what applies.
fn resolved(profile: &Value, has_capabilities: bool) -> LinuxSeccomp {
    let holds = |when: &Value| {
        let arches = when["arches"].as_array();
        let arch = arches.is_none_or(|list| list.contains(&json!("amd64")));
        arch && (has_capabilities || when["caps"].is_null())
    };
    let empty = |when: &Value| when.as_object().is_none_or(|map| map.is_empty());
    let mut profile = profile.clone();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    rules.retain(|rule| {
        holds(&rule["includes"]) && (empty(&rule["excludes"]) || !holds(&rule["excludes"]))
    });
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    serde_json::from_value(profile).unwrap()
}

/// The profile that podman and its kin install.
#[test]
fn the_profile_of_an_engine_is_understood() {
    let Ok(text) = std::fs::read_to_string("/usr/share/containers/seccomp.json") else {
        eprintln!("SKIP the_profile_of_an_engine_is_understood: it is not installed");
        return;
    };
    let profile: Value = serde_json::from_str(&text).unwrap();
    for has_capabilities in [false, true] {
        let section = resolved(&profile, has_capabilities);
        let length = compile(&section, &X86_64).unwrap().instructions.len();
        eprintln!("podman's profile for three architectures: {length} instructions");
        agree(&section).unwrap();
        libseccomp::agrees(&section);
    }
}
