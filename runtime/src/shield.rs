//! CVE-2019-5736: a container that could rewrite the runtime's executable must never get hold of
//! it.
//!
//! At the moment of its last exec, `/proc/self/exe` of the new process leads to the program that
//! calls it; a script or loader of the container's with the right first line makes the kernel open
//! it. Who is root or has capabilities could then write to it, on the host. (Who is neither,
//! cannot; for such containers nothing of this is done.)
//!
//! So the last exec is not done by the runtime but by the *shield*: a program of its own of some
//! 200 bytes that does nothing else, in a sealed anonymous file that exists once for each launch.
//! That costs one more exec of almost nothing, some 60 us, where a copy of the whole runtime would
//! cost 600.
//!
//! It is executed with `[candidate]... "" [argument]...`, tries each candidate with the arguments,
//! and reports like [`crate::init`] when none can be executed.
//!
//! What waits for `start` or for hooks waits in it: there is nothing of the runtime to be seen,
//! neither its memory and environment nor its executable. It was executed in the user namespace of
//! the container, so that also without root who owns that may look at it and join it. What comes
//! after the wait it then does too: it says so, and loads the filter.
//!
//! Where the runtime itself stays in sight of the container (the built-in init, `exec` into its
//! pid namespace), the shield cannot help: there the runtime runs from a read-only clone of its
//! mount, see [`run_from_read_only_clone`].

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{CWD, MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::sys::shield::{Trailer, code};
use crate::sys::{self, MountAttr, Strings};

/// Sizes of the headers of a 64-bit ELF file (elf(5)).
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Where the shield is loaded.
const BASE: u64 = 0x40_0000;

/// What /proc/PID/exe of a process that executes the shield says.
pub const NAME: &str = "/memfd:metactl-exec";

/// Whether there is one for this architecture.
pub fn exists() -> bool {
    code().is_some()
}

/// Makes a shield.
pub fn make(trailer: Trailer<'_>) -> io::Result<OwnedFd> {
    let code = code().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "not written for this architecture",
        )
    })?;
    let image = image(code, trailer);
    let mut file = File::from(anonymous_file(c"metactl-exec")?);
    file.write_all(&image)?;
    seal(file)
}

fn anonymous_file(name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MEMFD_EXEC came with Linux 6.3, together with a sysctl that asks for it.
    match memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        result => result,
    }
}

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

fn seal(file: File) -> io::Result<OwnedFd> {
    fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// Whether this program runs from a sealed copy of itself.
pub fn is_sealed_copy() -> bool {
    let seals = File::open("/proc/self/exe").map(|file| fcntl_get_seals(&file));
    matches!(seals, Ok(Ok(seals)) if seals.contains(SEALS))
}

/// The runtime's executable with nobody able to write to it: its file through a read-only clone of
/// its mount, or where the kernel cannot make one (Linux before 5.12) a copy in a sealed anonymous
/// file, which takes ten times as long.
fn unwritable_executable() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    let clone = open_tree(CWD, c"/proc/self/exe", flags)
        .and_then(|clone| sys::mount_setattr(&clone, &attr, false).map(|()| clone));
    match clone {
        Err(Errno::NOSYS) => {
            let mut copy = File::from(anonymous_file(c"metactl-runtime")?);
            io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
            seal(copy)
        }
        result => Ok(result?),
    }
}

/// A static executable of one read-only segment: headers, code, trailer.
fn image(code: &[u8], trailer: Trailer<'_>) -> Vec<u8> {
    let start = FILE_HEADER + PROGRAM_HEADER;
    let trailer = trailer.to_bytes(BASE + (start + code.len()) as u64);
    let size = (start + code.len() + trailer.len()) as u64;
    let mut elf = Vec::with_capacity(512);
    // e_ident: 64 bit, little endian, version 1, System V.
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend_from_slice(&2u16.to_le_bytes()); // ET_EXEC
    elf.extend_from_slice(&62u16.to_le_bytes()); // EM_X86_64
    elf.extend_from_slice(&1u32.to_le_bytes());
    elf.extend_from_slice(&(BASE + start as u64).to_le_bytes()); // e_entry
    elf.extend_from_slice(&(FILE_HEADER as u64).to_le_bytes()); // e_phoff
    elf.extend_from_slice(&[0; 12]); // e_shoff, e_flags
    for value in [FILE_HEADER, PROGRAM_HEADER, 1, 0, 0, 0] {
        elf.extend_from_slice(&(value as u16).to_le_bytes());
    }
    elf.extend_from_slice(&1u32.to_le_bytes()); // PT_LOAD
    elf.extend_from_slice(&5u32.to_le_bytes()); // readable, executable
    for value in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend_from_slice(&value.to_le_bytes());
    }
    elf.extend_from_slice(code);
    elf.extend_from_slice(&trailer);
    elf
}

/// Executes the runtime anew, with the same arguments, from where it cannot be written. Returns only
/// when that failed.
pub fn run_from_read_only_clone() -> io::Error {
    let attempt = || -> io::Result<Errno> {
        let executable = unwritable_executable()?;
        let strings = |list: Vec<std::ffi::OsString>| -> io::Result<Vec<CString>> {
            list.into_iter()
                .map(|s| Ok(CString::new(s.into_vec())?))
                .collect()
        };
        let arguments = strings(std::env::args_os().collect())?;
        let pairs = std::env::vars_os().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        });
        let environment = strings(pairs.collect())?;
        let arguments = Strings::new(arguments.iter().map(CString::as_c_str));
        let environment = Strings::new(environment.iter().map(CString::as_c_str));
        // Blocked signals would stay blocked.
        sys::unblock_signals()?;
        Ok(sys::execve_fd(&executable, &arguments, &environment))
    };
    match attempt() {
        Ok(errno) => errno.into(),
        Err(e) => e,
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;
    use crate::report::{self, Message};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Output};

    /// Runs the shield with these strings, and tells its output and its report.
    fn run(strings: &[&str]) -> (Output, Option<Message>) {
        let kind = SocketType::SEQPACKET;
        let (ours, its) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let fd = u32::try_from(its.as_raw_fd()).unwrap();
        let shield = make(Trailer {
            report: fd,
            step: 9,
            wait: None,
            filter: None,
        })
        .unwrap();
        rustix::io::fcntl_setfd(&its, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new(format!("/proc/self/fd/{}", shield.as_raw_fd()));
        command
            .arg0(strings[0])
            .args(&strings[1..])
            .env_clear()
            .env("A", "b");
        let output = command.output().unwrap();
        drop(its);
        (
            output,
            report::receive(&ours).unwrap().map(|(message, _)| message),
        )
    }

    #[test]
    fn the_first_candidate_that_works_gets_the_arguments_and_no_descriptor() {
        let script = "echo $A $0 $1; for f in /proc/$$/fd/*; do readlink $f; done; true";
        let (output, report) = run(&[
            "/nowhere/sh",
            "/bin/sh",
            "",
            "mysh",
            "-c",
            script,
            "zero",
            "one",
        ]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("b zero one\n"), "{text}");
        assert!(!text.contains("socket:"), "{text}");
        assert!(report.is_none() && output.status.success());
    }

    #[test]
    fn what_cannot_be_executed_is_reported_with_its_path() {
        let (output, report) = run(&["/nowhere/x", "/etc/passwd", "/nowhere/y", "", "x"]);
        assert_eq!(output.status.code(), Some(127));
        let Some(Message::Fault { step, fault }) = report else {
            panic!("{report:?}")
        };
        assert_eq!((step, fault.errno), (9, Errno::ACCESS));
        assert_eq!(fault.detail.as_bytes(), b"/etc/passwd");
        let (_, report) = run(&["/nowhere/x", "", "x"]);
        let Some(Message::Fault { fault, .. }) = report else {
            panic!("{report:?}")
        };
        assert_eq!(
            (fault.errno, fault.detail.as_bytes().len()),
            (Errno::NOENT, 0)
        );
    }
}
