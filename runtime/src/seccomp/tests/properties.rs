//! Random profiles against the oracles.

use super::*;
use proptest::prelude::*;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;

/// A comparison: argument, operator (index into the list below), value, mask.
type Comparison = (u8, usize, u64, u64);

/// A native call and its number.
fn native(index: usize) -> (&'static str, u32) {
    let calls = X86_64.calls.iter();
    let mut native = calls.filter_map(|(name, n)| Some((*name, u32::try_from(n[0]).ok()?)));
    native.nth(index).unwrap()
}

/// Profiles that seccompiler can express as well: one action, conditions ANDed, rules ORed.
fn seccompiler_agrees(rules: &[(usize, Vec<Comparison>)]) {
    let ops = ["EQ", "NE", "GT", "GE", "LT", "LE", "MASKED_EQ"];
    let mut theirs: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut ours = Vec::new();
    for (call, conditions) in rules {
        let (name, number) = native(*call);
        let list = theirs.entry(i64::from(number)).or_default();
        let mut args = Vec::new();
        let mut own = Vec::new();
        for (index, op, value, mask) in conditions {
            let (first, second) = if *op == 6 {
                (*mask, *value & *mask)
            } else {
                (*value, 0)
            };
            args.push(format!(
                r#"{{"index":{index},"value":{first},"valueTwo":{second},"op":"SCMP_CMP_{}"}}"#,
                ops[*op]
            ));
            let (op, value) = match op {
                0 => (SeccompCmpOp::Eq, *value),
                1 => (SeccompCmpOp::Ne, *value),
                2 => (SeccompCmpOp::Gt, *value),
                3 => (SeccompCmpOp::Ge, *value),
                4 => (SeccompCmpOp::Lt, *value),
                5 => (SeccompCmpOp::Le, *value),
                _ => (SeccompCmpOp::MaskedEq(*mask), *value & *mask),
            };
            own.push(SeccompCondition::new(*index, SeccompCmpArgLen::Qword, op, value).unwrap());
        }
        list.push(SeccompRule::new(own).unwrap());
        let args = args.join(",");
        ours.push(format!(
            r#"{{"names":["{name}"],"action":"SCMP_ACT_ALLOW","args":[{args}]}}"#
        ));
    }
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{}]}}"#,
        ours.join(",")
    );
    let section = section(&json);
    let ours = compile(&section, &X86_64).unwrap().instructions;
    let filter = SeccompFilter::new(
        theirs.clone(),
        SeccompAction::Errno(38),
        SeccompAction::Allow,
        TargetArch::x86_64,
    );
    let theirs_program: Vec<sock_filter> = filter.unwrap().try_into().unwrap();
    let values = interesting(&section);
    for (call, _) in rules {
        let number = native(*call).1;
        for n in 0..values.len().min(200) {
            for position in 0..6 {
                let mut args = [values[(n * 5 + position) % values.len()]; 6];
                args[position] = values[n];
                assert_eq!(
                    run(&ours, NATIVE, number, args),
                    run(&theirs_program, NATIVE, number, args),
                    "{number} {args:x?} of {json}"
                );
            }
        }
    }
    for number in 0..600 {
        let args = [0; 6];
        assert_eq!(
            run(&ours, NATIVE, number, args),
            run(&theirs_program, NATIVE, number, args)
        );
    }
    assert_eq!(
        run(&ours, I386, 1, [0; 6]),
        run(&theirs_program, I386, 1, [0; 6])
    );
}

/// 64-bit values that differ in one half only are what goes wrong.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..5,
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
        any::<u32>().prop_map(|high| u64::from(high) << 32),
        Just(u64::MAX),
        Just(0x7e02_0000),
    ]
}

fn conditions() -> impl Strategy<Value = Vec<Comparison>> {
    // Every index once, so that both understand the rule in the same way.
    proptest::collection::btree_map(0u8..6, (0usize..7, value(), value()), 1..4).prop_map(|map| {
        map.into_iter()
            .map(|(i, (op, v, m))| (i, op, v, m))
            .collect()
    })
}

fn profile() -> impl Strategy<Value = LinuxSeccomp> {
    let action = prop_oneof![
        Just(r#""SCMP_ACT_ALLOW""#.to_owned()),
        Just(r#""SCMP_ACT_LOG""#.to_owned()),
        Just(r#""SCMP_ACT_TRAP""#.to_owned()),
        Just(r#""SCMP_ACT_KILL""#.to_owned()),
        Just(r#""SCMP_ACT_KILL_PROCESS""#.to_owned()),
        (0u32..4096).prop_map(|errno| format!(r#""SCMP_ACT_ERRNO","errnoRet":{errno}"#)),
        (0u32..3).prop_map(|data| format!(r#""SCMP_ACT_TRACE","errnoRet":{data}"#)),
    ];
    let op = proptest::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    let arg = (0usize..6, op, value(), value()).prop_map(|(index, op, value, two)| {
        format!(r#"{{"index":{index},"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}"#)
    });
    let args = prop_oneof![
        2 => Just(Vec::new()),
        3 => proptest::collection::vec(arg, 1..4),
    ];
    // Few calls, so that rules meet; some that lie next to each other, and the odd ones of i386.
    let odd = [
        "socketcall",
        "socket",
        "recv",
        "ipc",
        "semop",
        "mmap",
        "select",
        "ioctl",
    ];
    let name = prop_oneof![
        5 => (0usize..40).prop_map(|n| X86_64.calls[n * 9 % X86_64.calls.len()].0),
        2 => proptest::sample::select(odd.to_vec()),
    ];
    let names = proptest::collection::vec(name, 1..6);
    let rule = (names, action.clone(), args).prop_map(|(names, action, args)| {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        format!(
            r#"{{"names":[{}],"action":{action},"args":[{}]}}"#,
            names.join(","),
            args.join(",")
        )
    });
    let architectures = proptest::sample::subsequence(
        vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        0..4,
    );
    let rules = proptest::collection::vec(rule, 0..12);
    (action, architectures, rules).prop_map(|(default, architectures, rules)| {
        let default = default.replace("errnoRet", "defaultErrnoRet");
        section(&format!(
            r#"{{"defaultAction":{default},"architectures":{architectures:?},"syscalls":[{}]}}"#,
            rules.join(",")
        ))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_profile_means_what_it_says(profile in profile()) {
        match compile(&profile, &X86_64) {
            Err(SeccompError::Contradiction { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
            Ok(_) => prop_assert_eq!(agree(&profile), Ok(())),
        }
    }

    #[test]
    fn any_program_agrees_with_seccompiler(
        rules in proptest::collection::vec((0usize..380, conditions()), 1..8)
    ) {
        seccompiler_agrees(&rules);
    }
}
