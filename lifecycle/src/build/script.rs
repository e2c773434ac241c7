//! How the shell of a build gets its command: by its standard input. On its command line everybody on the server could
//! read it (proc_pid_cmdline(5)), and the `fetch` command of a site may hold a password; nor does it stand in the
//! bundle of the build.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::{OnPath, Result};

/// For `/bin/sh -c`: reads all of the standard input, and does what it says, whatever `PATH` a build has. The command itself then finds its standard
/// input at the end, as if it had none.
pub(super) const READ: &str = r#"eval "$(/bin/cat)""#;

/// The standard input of a shell that does [`READ`]: a file in memory that nobody can change.
///
/// # Errors
/// When there is no room for it.
pub(super) fn of(command: &str) -> Result<Stdio> {
    let place = Path::new("a file in memory");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = memfd_create("command", flags)
        .map(File::from)
        .on("make", place)?;
    file.write_all(command.as_bytes()).on("write", place)?;
    file.seek(SeekFrom::Start(0)).on("rewind", place)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).on("seal", place)?;
    Ok(Stdio::from(file))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    fn run(command: &str) -> Output {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", READ]).stdin(of(command).unwrap());
        shell.output().unwrap()
    }

    #[test]
    fn the_shell_does_what_the_command_says() {
        let done = run("printf '%s|' \"it's\" \\\n  two # a comment\nprintf 'a\\nb'; exit 3\n");
        assert_eq!(done.status.code(), Some(3));
        assert_eq!(String::from_utf8_lossy(&done.stdout), "it's|two|a\nb");
        assert_eq!(run("false").status.code(), Some(1));
        assert_eq!(run("no-such-command").status.code(), Some(127));
        assert!(!run("if true").status.success(), "not a whole command");
        assert_eq!(run("").status.code(), Some(0));
    }

    #[test]
    fn the_command_has_nothing_to_read_and_its_text_cannot_be_changed() {
        assert_eq!(run("read line; echo \"$?:$line\"").stdout, b"1:\n");
        assert!(!run("echo more >&0").status.success());
        assert!(!run(": > /proc/self/fd/0").status.success());
    }

    #[test]
    fn it_is_on_no_command_line() {
        let done = run("tr '\\0' ' ' < /proc/$$/cmdline; : s3cret");
        assert_eq!(
            String::from_utf8_lossy(&done.stdout),
            format!("/bin/sh -c {READ} ")
        );
    }
}
