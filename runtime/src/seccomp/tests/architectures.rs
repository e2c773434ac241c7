//! Several interfaces in one filter, and their tables.

use super::*;
use crate::seccomp::arch::AARCH64;
use crate::seccomp::foreign;

#[test]
fn tables_are_sorted_and_agree_with_libc() {
    assert!(foreign::CALLS.is_sorted());
    for arch in [&X86_64, &AARCH64] {
        assert!(arch.calls.is_sorted_by(|a, b| a.0 < b.0));
        for (index, interface) in arch.interfaces.iter().enumerate() {
            let name = interface.oci;
            let mut numbers: Vec<_> = arch.calls.iter().map(|c| c.1[index]).collect();
            numbers.retain(|number| *number >= 0);
            numbers.sort_unstable();
            let count = numbers.len();
            assert!(count > 300, "{name:?}");
            let segments = interface.segments.iter();
            let rows = segments.flat_map(|s| s.rows.iter().zip(s.first..));
            let placed: Vec<i32> = rows
                .filter(|(row, _)| **row != u16::MAX)
                .map(|(row, number)| {
                    let call = &arch.calls[usize::from(*row)];
                    assert_eq!(call.1[index], number.cast_signed(), "{name:?} {call:?}");
                    call.1[index]
                })
                .collect();
            // sync_file_range2 and arm_sync_file_range are one call with two names.
            numbers.dedup();
            assert_eq!(placed, numbers, "{name:?}");
            assert!(
                numbers.len() + 1 >= count,
                "{name:?}: a number stands twice"
            );
        }
    }
    if cfg!(target_arch = "x86_64") {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone", libc::SYS_clone),
            ("prlimit64", libc::SYS_prlimit64),
            ("openat2", libc::SYS_openat2),
            ("clone3", libc::SYS_clone3),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mseal", libc::SYS_mseal),
        ] {
            let row = X86_64.row(name).unwrap();
            assert_eq!(i64::from(X86_64.calls[row].1[0]), number, "{name}");
        }
    }
    assert!(X86_64.is_known("socketcall"));
    assert!(X86_64.is_known("set_tls"));
    assert!(!X86_64.is_known("sockett"));
}

/// The numbers of the kernel's own headers, where they are installed.
#[test]
fn tables_agree_with_the_headers() {
    for (index, file) in ["64", "32", "x32"].iter().enumerate() {
        let path = format!("/usr/include/x86_64-linux-gnu/asm/unistd_{file}.h");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("SKIP {path} is not there");
            continue;
        };
        let mut seen = 0;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("#define __NR_") else {
                continue;
            };
            let (name, number) = rest.split_once(' ').unwrap();
            let number = number.trim_matches(['(', ')']);
            let number = number.trim_start_matches("__X32_SYSCALL_BIT + ");
            let row = X86_64.row(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(X86_64.calls[row].1[index].to_string(), number, "{name}");
            seen += 1;
        }
        assert!(seen > 300, "{path}");
    }
}

fn listing(list: &str, json: &str) -> Vec<sock_filter> {
    let list = format!(r#""architectures":{list},"defaultAction""#);
    compiled(&json.replacen("\"defaultAction\"", &list, 1))
}

const ALL: &str = r#"["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_AARCH64"]"#;

#[test]
fn other_architectures_are_killed_unless_listed() {
    let plain = ALLOW_SOME.replace(r#""architectures":["SCMP_ARCH_X86_64"],"#, "");
    for list in ["[]", "null", r#"["SCMP_ARCH_AARCH64","SCMP_ARCH_S390X"]"#] {
        let program = listing(list, &plain);
        assert_eq!(run(&program, NATIVE, 0, [0; 6]), ret::ALLOW, "{list}");
        assert_eq!(run(&program, NATIVE, 2, [0; 6]), ret::ERRNO | 1);
        assert_eq!(run(&program, NATIVE, X32, [0; 6]), ret::KILL_PROCESS);
        assert_eq!(run(&program, NATIVE, X32 | 513, [0; 6]), ret::KILL_PROCESS);
        assert_eq!(run(&program, NATIVE, u32::MAX, [0; 6]), ret::ERRNO | 1);
        assert_eq!(run(&program, I386, 3, [0; 6]), ret::KILL_PROCESS);
        assert_eq!(run(&program, 0xc000_00b7, 63, [0; 6]), ret::KILL_PROCESS);
    }
    let program = listing(ALL, &plain);
    // read, open, exit_group of each.
    for (arch, numbers) in [
        (NATIVE, [0, 2, 231]),
        (I386, [3, 5, 252]),
        (NATIVE, [X32, X32 | 2, X32 | 231]),
    ] {
        let of = |number| run(&program, arch, number, [0; 6]);
        assert_eq!(
            numbers.map(of),
            [ret::ALLOW, ret::ERRNO | 1, ret::ALLOW],
            "{numbers:x?}"
        );
    }
    assert_eq!(run(&program, 0xc000_00b7, 63, [0; 6]), ret::KILL_PROCESS);
    agree(&section(&format!(
        r#"{{"architectures":{ALL},{}"#,
        plain.strip_prefix('{').unwrap()
    )))
    .unwrap();
}

/// Newer calls than a profile knows look as on an older kernel, as in runc.
#[test]
fn newer_calls_than_all_named_do_not_exist() {
    let json = r#"{"defaultAction":"SCMP_ACT_KILL","syscalls":[
        {"names":["read","getrandom"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let program = listing(ALL, json);
    for (arch, getrandom) in [(NATIVE, 318), (I386, 355), (NATIVE, X32 | 318)] {
        let of = |number| run(&program, arch, number, [0; 6]);
        let last = getrandom;
        assert_eq!(of(last), ret::ALLOW);
        assert_eq!(of(last - 1), ret::KILL_THREAD);
        assert_eq!([last + 1, last + 700].map(of), [ENOSYS; 2]);
    }
}

/// Seccomp circumvented through the other interface's calls, on kernels before 5.4 that carry out
/// the native ioctl as number 16 with the x32 bit, and x32's as 514 without it.
#[test]
fn numbers_that_old_kernels_confuse_are_closed() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["ioctl"],"action":"SCMP_ACT_TRAP"}]}"#;
    let program = listing(ALL, json);
    let of = |number| run(&program, NATIVE, number, [0; 6]);
    assert_eq!([16, X32 | 514].map(of), [ret::TRAP; 2]);
    assert_eq!([X32 | 16, 514].map(of), [ENOSYS; 2]);
    assert_eq!([511, 548, X32 | 511].map(of), [ret::ALLOW; 3]);
}

/// Seccomp circumvented through socketcall and ipc: what is denied is denied there too, and what
/// is allowed for some arguments only is not allowed there.
#[test]
fn multiplexers_open_no_hole() {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    let call =
        |program: &[sock_filter], number, first| run(program, I386, number, [first, 7, 7, 7, 7, 7]);
    let program = listing(
        ALL,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["socket","accept","semop"],"action":"SCMP_ACT_ERRNO","errnoRet":9},
            {"names":["connect","msgget"],"action":"SCMP_ACT_TRAP",
             "args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    let socketcall = |first| call(&program, SOCKETCALL, first);
    let ipc = |first| call(&program, IPC, first);
    assert_eq!([1, 5].map(socketcall), [ret::ERRNO | 9; 2]);
    assert_eq!([2, 4, 21].map(socketcall), [ret::ALLOW; 3]);
    assert_eq!(socketcall(3), ret::TRAP, "a denial needs no arguments");
    // The kernel reads the first argument as 32 bits, and ipc's upper half as a version.
    assert_eq!(socketcall(0xdead_0000_0001), ret::ERRNO | 9);
    assert_eq!([1, 0x1_0001, 0xffff_0001].map(ipc), [ret::ERRNO | 9; 3]);
    assert_eq!([13, 0x7_000d].map(ipc), [ret::TRAP; 2]);
    assert_eq!([2, 0x1_0002].map(ipc), [ret::ALLOW; 2]);

    let allowed = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["connect","shmat"],"action":"SCMP_ACT_ALLOW"},
            {"names":["socket","semctl"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":40,"op":"SCMP_CMP_NE"}]}]}"#;
    let program = listing(ALL, allowed);
    assert_eq!(call(&program, SOCKETCALL, 3), ret::ALLOW);
    assert_eq!(call(&program, SOCKETCALL, 1), ret::ERRNO | 1);
    assert_eq!(call(&program, IPC, 21), ret::ALLOW);
    assert_eq!(call(&program, IPC, 3), ret::ERRNO | 1);
    // The direct calls can be seen.
    assert_eq!(call(&program, 359, 1), ret::ALLOW);
    assert_eq!(call(&program, 359, 40), ret::ERRNO | 1);

    // Who names the multiplexer decides (profiles of engines do).
    let named = allowed.replace("\"connect\"", r#""connect","socketcall","ipc""#);
    let program = listing(ALL, &named);
    assert_eq!(call(&program, SOCKETCALL, 1), ret::ALLOW);
    assert_eq!(call(&program, IPC, 3), ret::ALLOW);
}

/// The arguments of mmap and select of 32-bit x86 are in memory: no rule may trust the registers.
#[test]
fn arguments_in_memory_open_no_hole() {
    let json = |default: &str, action: &str| {
        format!(
            r#"{{"defaultAction":"{default}","syscalls":[
            {{"names":["mmap","mmap2","select"],"action":"{action}",
             "args":[{{"index":2,"value":4,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}}]}}]}}"#
        )
    };
    let program = listing(ALL, &json("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"));
    let of = |number| run(&program, I386, number, [0; 6]);
    assert_eq!(
        [90, 82, 192].map(of),
        [ret::ERRNO | 1, ret::ERRNO | 1, ret::ALLOW]
    );
    let program = listing(ALL, &json("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"));
    let of = |number| run(&program, I386, number, [4; 6]);
    assert_eq!(
        [90, 82, 192].map(of),
        [ret::ERRNO | 1, ret::ERRNO | 1, ret::ALLOW]
    );
}

/// What stands in the upper halves of 64-bit registers means nothing to a 32-bit call.
#[test]
fn upper_halves_of_32_bit_arguments_do_not_count() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["socket"],"action":"SCMP_ACT_TRAP",
         "args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"}]},
        {"names":["personality"],"action":"SCMP_ACT_TRAP",
         "args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_GE"}]}]}"#;
    let program = listing(ALL, json);
    let wide = |low: u64| [low | 0xdead_beef << 32, 0, 0, 0, 0, 0];
    assert_eq!(run(&program, I386, 359, wide(16)), ret::TRAP);
    assert_eq!(run(&program, NATIVE, X32 | 41, wide(16)), ret::TRAP);
    assert_eq!(run(&program, NATIVE, 41, wide(16)), ret::ALLOW);
    assert_eq!(run(&program, I386, 136, wide(0xffff_ffff)), ret::TRAP);
}

/// 64-bit ARM has numbers of its own, and 32-bit ARM some at 0xf0000.
#[test]
fn the_tables_of_arm_are_used() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_ARM"],"syscalls":[
        {"names":["openat","set_tls","recv"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let program = compile(&section(json), &AARCH64).unwrap().instructions;
    let (arm64, arm) = (0xc000_00b7, 0x4000_0028);
    let denied = ret::ERRNO | 1;
    for (arch, number, want) in [
        (arm64, 56, ret::ALLOW),
        (arm64, 322, ENOSYS),
        (arm64, 55, denied),
        (arm, 322, ret::ALLOW),
        (arm, 291, ret::ALLOW),
        (arm, 56, denied),
        (arm, 0xf_0002, denied),
        (arm, 0xf_0005, ret::ALLOW),
        (arm, 0xf_0006, ENOSYS),
        (NATIVE, 257, ret::KILL_PROCESS),
    ] {
        assert_eq!(
            run(&program, arch, number, [0; 6]),
            want,
            "{arch:x} {number}"
        );
    }
    let program = compile(&section(&json.replace("ARCH_ARM", "ARCH_X86")), &AARCH64).unwrap();
    assert_eq!(
        run(&program.instructions, arm, 322, [0; 6]),
        ret::KILL_PROCESS
    );
}
