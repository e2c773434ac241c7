//! A command on a terminal of its own, for Ctrl-C.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::pty::openpty;

use crate::command;

/// A terminal with a command in its foreground.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts `command` as the leader of a session on a new terminal.
    pub fn spawn(command: &Command) -> Terminal {
        let pty = openpty(None, None).unwrap();
        let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        // setsid(1) makes the terminal the controlling one, as a login does.
        let mut session = Command::new("setsid");
        session
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        session.env_clear();
        session.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        if let Some(dir) = command.get_current_dir() {
            session.current_dir(dir);
        }
        session
            .stdin(slave(&pty.slave))
            .stdout(slave(&pty.slave))
            .stderr(slave(&pty.slave));
        let child = session.spawn().unwrap();
        drop(session);
        drop(pty.slave);
        let screen = Arc::new(Mutex::new(String::new()));
        let mut output = File::from(pty.master.try_clone().unwrap());
        let written = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends with EIO when the last process leaves the terminal.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                written
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Terminal {
            child,
            keyboard: File::from(pty.master),
            screen,
        }
    }

    /// Presses keys; `"\x03"` is Ctrl-C.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives it another size, and tells the command in its foreground.
    pub fn resize(&self, rows: u16, columns: u16) {
        let mut stty = Command::new("stty");
        stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
        stty.stdin(self.keyboard.try_clone().unwrap());
        assert!(stty.status().unwrap().success());
    }

    /// What was written so far.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Waits until `text` was written.
    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) {
        crate::eventually(
            &format!("{text:?} on the terminal: {}", self.screen()),
            limit,
            || self.screen().contains(text).then_some(()),
        );
    }

    /// Waits for the end of the command, and gives its exit code.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> i32 {
        let status = command::wait(&mut self.child, limit);
        let status =
            status.unwrap_or_else(|| panic!("not over within {limit:?}: {}", self.screen()));
        command::exit_code(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
