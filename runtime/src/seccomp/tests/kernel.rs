//! The kernel itself: it takes the programs and does what they say.

use super::*;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The kernel takes the program and does what it says. A filter belongs to a thread.
#[test]
fn the_kernel_obeys() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIP the_kernel_obeys: not on x86-64");
        return;
    }
    let program = compiled(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["getcwd"],"action":"SCMP_ACT_ERRNO","errnoRet":77},
            {"names":["sethostname"],"action":"SCMP_ACT_ERRNO","errnoRet":78,
             "args":[{"index":1,"value":70000,"op":"SCMP_CMP_GT"}]}]}"#,
    );
    let seen = std::thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        std::env::current_dir().map_err(|error| error.raw_os_error())
    });
    assert_eq!(seen.join().unwrap(), Err(Some(77)));
}

/// The program that makes foreign calls, and a 32-bit program if the compiler can make one.
struct Programs {
    _dir: tempfile::TempDir,
    probe: PathBuf,
    small: Option<PathBuf>,
}

/// Compiles them. Not a static: those are never dropped, and would leave the directory behind.
fn programs() -> Option<Programs> {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, source: &[u8], options: &[&str]| {
        let program = dir.path().join(name);
        let mut compiler = Command::new("cc");
        compiler.args(options).args(["-x", "c", "-", "-o"]);
        let child = compiler.arg(&program).stdin(Stdio::piped()).spawn();
        let status = child.and_then(|mut child| {
            child.stdin.take().unwrap().write_all(source)?;
            child.wait()
        });
        status.is_ok_and(|s| s.success()).then_some(program)
    };
    let probe = make("probe", include_bytes!("probe.c"), &["-O1", "-static"]);
    let small = [
        "-m32",
        "-O1",
        "-static",
        "-nostdlib",
        "-ffreestanding",
        "-fno-pie",
        "-no-pie",
    ];
    let small = make("small32", include_bytes!("small32.c"), &small);
    match probe {
        Some(probe) if cfg!(target_arch = "x86_64") => Some(Programs {
            _dir: dir,
            probe,
            small,
        }),
        _ => {
            eprintln!("SKIP foreign calls: no C compiler, or not on x86-64");
            None
        }
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// 0, or the errno of the call.
    Code(i32),
    Signal(i32),
}

const KILLED: End = End::Signal(libc::SIGSYS);
const DENIED: End = End::Code(77);

fn probe(programs: &Programs, json: &str, arguments: &[&str]) -> (End, String) {
    let filter = compile(&section(json), &X86_64).unwrap();
    let bytes: Vec<u8> = filter
        .instructions
        .iter()
        .flat_map(|i| {
            let [a, b] = i.code.to_le_bytes();
            let [c, d, e, f] = i.k.to_le_bytes();
            [a, b, i.jt, i.jf, c, d, e, f]
        })
        .collect();
    let mut child = Command::new(&programs.probe)
        .args(arguments)
        .env("FLAGS", filter.flags.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    let end = match output.status.signal() {
        Some(signal) => End::Signal(signal),
        None => End::Code(output.status.code().unwrap()),
    };
    (end, String::from_utf8_lossy(&output.stdout).into_owned())
}

fn profile(listed: &str, default: &str, rules: &str) -> String {
    format!(r#"{{"defaultAction":"{default}","architectures":[{listed}],"syscalls":[{rules}]}}"#)
}

const FOREIGN: &str = r#""SCMP_ARCH_X86","SCMP_ARCH_X32""#;

/// Seccomp circumvented through i386 or x32 calls: those that are not listed end the process, and
/// for those that are listed the rules hold under their own numbers.
#[test]
fn foreign_calls_go_around_nothing() {
    let Some(programs) = &programs() else { return };
    let deny = r#"{"names":["mkdir","socket","semop"],"action":"SCMP_ACT_ERRNO","errnoRet":77}"#;
    let unlisted = profile("", "SCMP_ACT_ALLOW", deny);
    let listed = profile(FOREIGN, "SCMP_ACT_ALLOW", deny);
    let end = |json: &str, arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        probe(programs, json, &arguments).0
    };
    // mkdir is 83, on i386 39; getpid is 39, on i386 20; socket 41 and 359.
    for (arguments, without, with) in [
        ("native 83 0 0", DENIED, DENIED),
        ("native 39", End::Code(0), End::Code(0)),
        ("int80 20", KILLED, End::Code(0)),
        ("int80 39 0 0", KILLED, DENIED),
        ("int80 359 1 1 0", KILLED, DENIED),
        ("x32 83 0 0", KILLED, DENIED),
        ("x32 41 1 1 0", KILLED, DENIED),
        // Through the multiplexers: socketcall(SYS_SOCKET), ipc(SEMOP), also with a version.
        ("int80 102 1 0", KILLED, DENIED),
        ("int80 102 0xffffffff00000001 0", KILLED, DENIED),
        ("int80 117 1 0", KILLED, DENIED),
        ("int80 117 0x10001 0", KILLED, DENIED),
        // The 64-bit ioctl under x32's bit, and x32's without it.
        ("x32 16 0 0", KILLED, End::Code(38)),
        ("native 514 0 0", End::Code(38), End::Code(38)),
    ] {
        assert_eq!(end(&unlisted, arguments), without, "{arguments}");
        assert_eq!(end(&listed, arguments), with, "{arguments}");
    }
}

/// What the kernel does with the upper halves of registers in 32-bit calls.
#[test]
fn upper_halves_of_registers_hide_no_argument() {
    let Some(programs) = &programs() else { return };
    let rule = r#"{"names":["personality"],"action":"SCMP_ACT_ERRNO","errnoRet":77,
        "args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}"#;
    let json = profile(FOREIGN, "SCMP_ACT_ALLOW", rule);
    for (argument, want) in [
        ("8", DENIED),
        ("0xdeadbeef00000008", DENIED),
        ("9", End::Code(0)),
    ] {
        let (end, _) = probe(programs, &json, &["int80", "136", argument]);
        assert_eq!(end, want, "{argument}");
    }
}

/// An allow-list holds for 32-bit calls, and what depends on arguments is not allowed through
/// socketcall.
#[test]
fn an_allow_list_holds_for_foreign_calls() {
    let Some(programs) = &programs() else { return };
    let rules = r#"{"names":["getpid","exit_group","bind"],"action":"SCMP_ACT_ALLOW"},
        {"names":["socket"],"action":"SCMP_ACT_ALLOW",
         "args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}"#;
    let json = profile(FOREIGN, "SCMP_ACT_ERRNO", rules).replacen(
        "\"architectures\"",
        "\"defaultErrnoRet\":77,\"architectures\"",
        1,
    );
    for (arguments, want) in [
        ("int80 20", End::Code(0)),
        ("int80 39 0 0", DENIED),
        ("int80 359 1 1 0", End::Code(0)),
        ("int80 359 2 1 0", DENIED),
        ("int80 102 1 0", DENIED),
        // bind with a bad pointer: allowed, and the kernel says EFAULT.
        ("int80 102 2 0", End::Code(libc::EFAULT)),
        ("x32 83 0 0", DENIED),
    ] {
        let arguments_list: Vec<&str> = arguments.split(' ').collect();
        let (end, _) = probe(programs, &json, &arguments_list);
        assert_eq!(end, want, "{arguments}");
    }
}

/// The kernel takes the flags, and without an agent a notified call does not exist
/// (seccomp_unotify(2)).
#[test]
fn the_kernel_takes_all_flags() {
    let Some(programs) = &programs() else { return };
    let notify = r#"{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}"#;
    let notify = profile(FOREIGN, "SCMP_ACT_ALLOW", notify);
    let deny = r#"{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":77}"#;
    let deny = profile(FOREIGN, "SCMP_ACT_ALLOW", deny);
    let common = ["TSYNC", "LOG", "SPEC_ALLOW"];
    for (json, more, end) in [(notify, Some("WAIT_KILLABLE_RECV"), 38), (deny, None, 77)] {
        let flags: Vec<String> = common
            .into_iter()
            .chain(more)
            .map(|flag| format!("\"SECCOMP_FILTER_FLAG_{flag}\""))
            .collect();
        for flags in [flags.join(","), String::new()] {
            let fields = format!(r#"{{"listenerPath":"/a","flags":[{flags}],"#);
            let json = json.replacen('{', &fields, 1);
            for call in [["native", "83"], ["int80", "39"]] {
                assert_eq!(probe(programs, &json, &call).0, End::Code(end), "{json}");
            }
        }
    }
}

/// A 32-bit program runs under a large profile that lists x86, and only then.
#[test]
fn a_32_bit_program_runs_when_listed() {
    let Some(programs) = &programs() else { return };
    let Some(small) = &programs.small else {
        eprintln!("SKIP a_32_bit_program_runs_when_listed: the compiler makes none");
        return;
    };
    let run = |json: &str| probe(programs, json, &["exec", small.to_str().unwrap()]);
    let names = r#"{"names":["execve","write","exit_group"],"action":"SCMP_ACT_ALLOW"}"#;
    let listed = profile(FOREIGN, "SCMP_ACT_ERRNO", names);
    assert_eq!(run(&listed), (End::Code(0), "32 bits\n".into()));
    let unlisted = profile("", "SCMP_ACT_ERRNO", names);
    assert_eq!(run(&unlisted), (KILLED, String::new()));
    let large = profiles::large("SCMP_ACT_ERRNO", |_| true);
    let large = serde_json::to_string(&large).unwrap();
    assert_eq!(run(&large), (End::Code(0), "32 bits\n".into()));
}
