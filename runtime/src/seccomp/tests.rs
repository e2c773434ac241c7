//! Oracles: an interpreter of the produced program against a plain evaluation of the section and
//! against seccompiler's (`properties`) and libseccomp's own programs (`libseccomp`), and the
//! kernel itself (`kernel`).

use super::arch::{Interface, X86_64};
use super::rules::ret;
use super::*;
use oci_spec::runtime::{
    LinuxSeccompAction as Action, LinuxSeccompOperator as Operator, LinuxSyscall,
};

mod architectures;
mod kernel;
mod libseccomp;
mod naive;
mod notify;
mod profiles;
mod properties;

use naive::{agree, interesting};

const NATIVE: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;
const ENOSYS: u32 = ret::ERRNO | 38;

/// What the kernel's interpreter does with a filter (net/core/filter.c), on one call. Falls on
/// anything that the kernel's checker would refuse.
fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        16..64 if offset.is_multiple_of(4) => {
            let argument = args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) {
                argument as u32
            } else {
                (argument >> 32) as u32
            }
        }
        other => panic!("load of offset {other}"),
    };
    let (mut a, mut at) = (0, 0);
    loop {
        let i = &program[at];
        let jump = |taken: bool| if taken { i.jt as usize } else { i.jf as usize };
        at += 1;
        match i.code {
            0x20 => a = word(i.k),
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(a == i.k),
            0x25 => at += jump(a > i.k),
            0x35 => at += jump(a >= i.k),
            0x06 => return i.k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn section(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn compiled(json: &str) -> Vec<sock_filter> {
    compile(&section(json), &X86_64).unwrap().instructions
}

fn error(json: &str) -> SeccompError {
    compile(&section(json), &X86_64).unwrap_err()
}

const ALLOW_SOME: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],
    "syscalls":[{"names":["read","write","exit_group"],"action":"SCMP_ACT_ALLOW"}]}"#;

#[test]
fn every_action_has_its_return_value() {
    for (action, errno, want) in [
        ("SCMP_ACT_KILL", "", ret::KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", "", ret::KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", "", ret::KILL_PROCESS),
        ("SCMP_ACT_TRAP", "", ret::TRAP),
        ("SCMP_ACT_ERRNO", "", ret::ERRNO | 1),
        ("SCMP_ACT_ERRNO", r#","errnoRet":38"#, ret::ERRNO | 38),
        ("SCMP_ACT_ERRNO", r#","errnoRet":0"#, ret::ERRNO),
        ("SCMP_ACT_TRACE", "", ret::TRACE | 1),
        ("SCMP_ACT_TRACE", r#","errnoRet":4660"#, ret::TRACE | 4660),
        ("SCMP_ACT_LOG", "", ret::LOG),
        ("SCMP_ACT_ALLOW", "", ret::ALLOW),
    ] {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":99,
                "syscalls":[{{"names":["open"],"action":"{action}"{errno}}}]}}"#
        );
        let program = compiled(&json);
        assert_eq!(run(&program, NATIVE, 2, [0; 6]), want, "{action}{errno}");
        assert_eq!(run(&program, NATIVE, 1, [0; 6]), ret::ERRNO | 99);
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let rule = |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
    for (json, want) in [
        (
            r#"{"names":["open"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}"#,
            "4096 is too large",
        ),
        (
            r#"{"names":["open"],"action":"SCMP_ACT_KILL","errnoRet":1}"#,
            "takes no errno",
        ),
        (
            r#"{"names":[],"action":"SCMP_ACT_KILL"}"#,
            "at least one name",
        ),
        (
            r#"{"names":[""],"action":"SCMP_ACT_KILL"}"#,
            "at least one name",
        ),
        (
            r#"{"names":["opne"],"action":"SCMP_ACT_KILL"}"#,
            "\"opne\" is no system call",
        ),
        (
            r#"{"names":["open"],"action":"SCMP_ACT_KILL",
                "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
            "index 6",
        ),
    ] {
        let text = error(&rule(json)).to_string();
        assert!(text.contains(want), "{text:?} lacks {want:?}");
    }
    let default = r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#;
    assert_eq!(
        error(default),
        SeccompError::NoErrno {
            at: "defaultErrnoRet".into(),
            action: Action::ScmpActAllow,
        }
    );
    let args = |value: u32| format!(r#""args":[{{"index":0,"value":{value},"op":"SCMP_CMP_EQ"}}]"#);
    let two = |action: &str, value| {
        rule(&format!(
            r#"{{"names":["open"],"action":"SCMP_ACT_KILL",{}}},
               {{"names":["close","open"],"action":"{action}",{}}}"#,
            args(1),
            args(value)
        ))
    };
    assert!(matches!(
        error(&two("SCMP_ACT_TRAP", 1)),
        SeccompError::Contradiction { index: 1, name } if name == "open"
    ));
    compile(&section(&two("SCMP_ACT_KILL", 1)), &X86_64).unwrap();
    compile(&section(&two("SCMP_ACT_TRAP", 2)), &X86_64).unwrap();
}

#[test]
fn names_that_do_not_exist_are_skipped_where_that_denies_them() {
    let json = |default: &str, name: &str, action: &str| {
        section(&format!(
            r#"{{"defaultAction":"{default}","syscalls":[{{"names":["{name}"],"action":"{action}"}}]}}"#
        ))
    };
    for (default, name, action, works) in [
        ("SCMP_ACT_ERRNO", "call_of_linux_99", "SCMP_ACT_ALLOW", true),
        ("SCMP_ACT_ERRNO", "call_of_linux_99", "SCMP_ACT_KILL", true),
        ("SCMP_ACT_ALLOW", "call_of_linux_99", "SCMP_ACT_LOG", true),
        (
            "SCMP_ACT_ALLOW",
            "call_of_linux_99",
            "SCMP_ACT_ERRNO",
            false,
        ),
        ("SCMP_ACT_ALLOW", "socketcall", "SCMP_ACT_ERRNO", true),
    ] {
        let result = compile(&json(default, name, action), &X86_64);
        assert_eq!(result.is_ok(), works, "{default} {name} {action}");
    }
}

#[test]
fn flags_become_bits() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}"#;
    // TSYNC is 1 and has nothing to do here.
    assert_eq!(compile(&section(json), &X86_64).unwrap().flags, 6);
    let unknown = json.replace("FLAG_LOG", "FLAG_MAGIC");
    assert!(serde_json::from_str::<LinuxSeccomp>(&unknown).is_err());
    for (flags, want) in [
        (r#","flags":[]"#, 0),
        (r#","flags":null"#, 4),
        ("", 4),
        (r#","flags":["SECCOMP_FILTER_FLAG_TSYNC"]"#, 0),
    ] {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{flags}}}"#);
        assert_eq!(compile(&section(&json), &X86_64).unwrap().flags, want);
    }
}

/// The first two arguments of a call, and the return value.
type Probe = (u64, u64, u32);

/// What libseccomp 2.5.4 answers for the same rules, recorded from its `seccomp_export_bpf`.
#[test]
fn several_rules_for_one_call_mean_what_they_mean_in_libseccomp() {
    let arg = |index, op: &str, value, two| {
        format!(r#"{{"index":{index},"op":"SCMP_CMP_{op}","value":{value},"valueTwo":{two}}}"#)
    };
    let rule = |action: &str, args: &[String]| {
        let args = args.join(",");
        match action {
            "ALLOW" => {
                format!(r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{args}]}}"#)
            }
            errno => format!(
                r#"{{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":{errno},"args":[{args}]}}"#
            ),
        }
    };
    let eq = |index, value| arg(index, "EQ", value, 0);
    let cases: [(Vec<String>, &[Probe]); 8] = [
        (
            vec![rule("ALLOW", &[eq(0, 1)]), rule("5", &[eq(1, 2)])],
            &[(1, 2, 0x50005), (1, 0, 0x7fff_0000), (0, 2, 0x50005)],
        ),
        (
            vec![rule("5", &[eq(0, 1)]), rule("ALLOW", &[])],
            &[(1, 0, 0x7fff_0000), (2, 0, 0x7fff_0000)],
        ),
        (
            vec![rule("ALLOW", &[]), rule("5", &[])],
            &[(1, 0, 0x7fff_0000)],
        ),
        (
            vec![rule("ALLOW", &[arg(0, "MASKED_EQ", 0xf0, 0x13)])],
            &[
                (0x13, 0, 0x7fff_0000),
                (0x1f, 0, 0x7fff_0000),
                (0x20, 0, 0x50001),
            ],
        ),
        (
            vec![
                rule("ALLOW", &[arg(0, "GE", 3, 0)]),
                rule("5", &[arg(0, "GT", 5, 0)]),
            ],
            &[(6, 0, 0x50005), (4, 0, 0x7fff_0000), (1, 0, 0x50001)],
        ),
        (
            vec![
                rule("ALLOW", &[arg(0, "NE", 1, 0)]),
                rule("ALLOW", &[arg(0, "NE", 2, 0)]),
            ],
            &[
                (1, 0, 0x7fff_0000),
                (2, 0, 0x7fff_0000),
                (3, 0, 0x7fff_0000),
            ],
        ),
        (
            vec![
                rule("5", &[arg(0, "MASKED_EQ", 0xff, 1)]),
                rule("ALLOW", &[eq(0, 1)]),
            ],
            &[(1, 0, 0x50005), (0x101, 0, 0x50005), (3, 0, 0x50001)],
        ),
        (
            // One index twice: each for itself, as runc does it.
            vec![rule("ALLOW", &[eq(0, 1), eq(0, 2)])],
            &[(1, 0, 0x7fff_0000), (2, 0, 0x7fff_0000), (3, 0, 0x50001)],
        ),
    ];
    for (rules, probes) in cases {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#,
            rules.join(",")
        );
        let program = compiled(&json);
        for (first, second, want) in probes {
            let is = run(&program, NATIVE, 41, [*first, *second, 0, 0, 0, 0]);
            assert_eq!(is, *want, "{first} {second} of {json}");
        }
    }
}

#[test]
fn far_jumps_work_and_too_long_programs_are_refused() {
    // Many different comparisons for every third call: no jump of eight bits spans them.
    let long = |calls: usize, conditions: usize| {
        let rules: Vec<String> = X86_64
            .calls
            .iter()
            .filter(|(_, numbers)| numbers[0] >= 0)
            .step_by(3)
            .take(calls)
            .enumerate()
            .map(|(n, (name, _))| {
                let args: Vec<String> = (0..conditions)
                    .map(|i| {
                        let value = n * 1000 + i;
                        format!(r#"{{"index":0,"value":{value},"op":"SCMP_CMP_EQ"}}"#)
                    })
                    .collect();
                let args = args.join(",");
                format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_LOG","args":[{args}]}}"#)
            })
            .collect();
        section(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#,
            rules.join(",")
        ))
    };
    let big = long(100, 8);
    let length = compile(&big, &X86_64).unwrap().instructions.len();
    assert!(length > 3000, "{length}");
    agree(&big).unwrap();
    agree(&long(2, 400)).unwrap();
    let error = compile(&long(120, 12), &X86_64).unwrap_err();
    assert!(matches!(error, SeccompError::TooLong { length } if length > MAX_INSTRUCTIONS));
}
