//! Looking into what runs: its processes, the tools of its own JDK in its sandbox, and `lsof` and `strace` of the
//! server. The sandbox stays as it is: what joins it gets all of it, what looks from outside joins nothing.

mod network;
mod processes;
mod sandbox;
mod threads;
mod usage;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use metactl_bundles::view::DATA_DIR;
use metactl_runtime::process::ProcessId;
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::process::Signal;
use serde::Serialize;

use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::manager::require_root;

pub use processes::Process;
pub(crate) use sandbox::require_sandbox;
pub use threads::ThreadDump;
pub use usage::{Sampler, Usage};

/// What looks at processes from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watcher {
    /// lsof(8): the files that are open.
    Lsof,
    /// strace(1): the system calls.
    Strace,
}

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Watcher::Lsof => "lsof",
            Watcher::Strace => "strace",
        }
    }

    /// Its arguments for these processes; the person's own come behind.
    fn arguments(self, processes: &[Process]) -> Vec<OsString> {
        let pids = processes.iter().map(|process| process.pid.to_string());
        match self {
            Watcher::Lsof => {
                let list = pids.collect::<Vec<_>>().join(",");
                // No names of users: of that of an instance there is none, which lsof laments once for each file.
                vec!["-nPl".into(), "-a".into(), "-p".into(), list.into()]
            }
            Watcher::Strace => {
                let each = pids.flat_map(|pid| ["-p".into(), pid.into()]);
                std::iter::once("-f".into()).chain(each).collect()
            }
        }
    }
}

/// What was done to see the threads of a JVM.
#[derive(Debug)]
pub enum Threads {
    /// The JVM was asked to write them to its standard output, which is this log.
    InLog(PathBuf),
}

/// A heap dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeapDump {
    /// The file, as the server sees it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

impl Instance {
    /// The processes in its sandboxes, or in that of one entry point. Empty when nothing runs.
    ///
    /// # Errors
    /// An entry point that there is not; records that cannot be read.
    pub fn processes(&self, entry: Option<&str>) -> Result<Vec<Process>> {
        require_sandbox(self)?;
        let entry = entry.map(|entry| self.entry(entry)).transpose()?;
        processes::of(self, entry.as_ref().map(|entry| entry.name.as_str()))
    }

    /// Becomes `lsof` or `strace` of the server, as the user of the entry point: what its options can do (write
    /// files, run programs) is done with that user's rights. Returns only when that fails.
    ///
    /// # Errors
    /// When nothing runs, or the program is not installed.
    pub fn look_at(
        &self,
        entry: Option<&str>,
        watcher: Watcher,
        more: &[OsString],
    ) -> Result<Infallible> {
        require_root("looking at the processes of an instance")?;
        let all = self.running_processes(entry)?;
        let first = &all[0];
        let same: Vec<Process> = all.iter().filter(|p| p.uid == first.uid).cloned().collect();
        let mut command = Command::new(watcher.name());
        command.args(watcher.arguments(&same)).args(more);
        command.uid(first.uid).gid(first.gid);
        // A person's own environment is not for programs of another user.
        command.env_clear();
        for name in ["PATH", "TERM", "LANG", "LC_ALL"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let error = command.exec();
        Err(LifecycleError::Unavailable {
            what: format!("{} cannot be run: {error}", watcher.name()),
            hint: format!(
                "install it on this server: apt install {0}, dnf install {0}",
                watcher.name()
            ),
        })
    }

    /// Becomes `jcmd ... Thread.print` of the application's own JDK, in its sandbox and as its user. A JRE has no
    /// jcmd: then the JVM is asked by SIGQUIT to write its threads to its log (java(1)).
    ///
    /// # Errors
    /// When no JVM runs there.
    pub fn thread_dump(&self, entry: Option<&str>) -> Result<Threads> {
        require_root("looking into a sandbox")?;
        let jvm = self.jvm(entry)?;
        match jvm.tool("jcmd") {
            Some(jcmd) => {
                let words = [
                    jcmd,
                    jvm.inside.to_string(),
                    "Thread.print".into(),
                    "-l".into(),
                ];
                match self.become_inside(&jvm, &words)? {}
            }
            None => {
                let process = ProcessId::of(jvm.process.pid).on("read", Path::new("/proc"))?;
                let told = process
                    .signal(Signal::QUIT)
                    .on("signal a process in", Path::new("/proc"))?;
                if !told {
                    return Err(self.not_running(Some(&jvm.process.entry)));
                }
                Ok(Threads::InLog(self.log_file(&jvm.process.entry)))
            }
        }
    }

    /// Becomes `jstat -gcutil` of the application's own JDK: a line every `interval` milliseconds, `count` of them.
    ///
    /// # Errors
    /// When no JVM runs there, or it is that of a JRE.
    pub fn gc_utilization(
        &self,
        entry: Option<&str>,
        interval: u32,
        count: Option<u32>,
    ) -> Result<Infallible> {
        require_root("looking into a sandbox")?;
        let jvm = self.jvm(entry)?;
        let jstat = jvm.tool("jstat").ok_or_else(|| jvm.no_tool("jstat"))?;
        let mut words = vec![
            jstat,
            "-gcutil".into(),
            jvm.inside.to_string(),
            interval.to_string(),
        ];
        words.extend(count.map(|count| count.to_string()));
        self.become_inside(&jvm, &words)
    }

    /// Has a JVM write its heap into the data of the instance.
    ///
    /// # Errors
    /// When no JVM runs there, it is that of a JRE, or it cannot write the file.
    pub fn heap_dump(&self, entry: Option<&str>) -> Result<HeapDump> {
        require_root("looking into a sandbox")?;
        let jvm = self.jvm(entry)?;
        let jcmd = jvm.tool("jcmd").ok_or_else(|| jvm.no_tool("jcmd"))?;
        let stamp: String = files::now()
            .chars()
            .filter(|c| !matches!(c, '-' | ':'))
            .collect();
        let stamp = stamp.split(['.', 'Z']).next().unwrap_or(&stamp);
        let name = format!("heapdump-{}-{stamp}Z.hprof", jvm.process.entry);
        let words = [
            jcmd,
            jvm.inside.to_string(),
            "GC.heap_dump".into(),
            format!("{DATA_DIR}/{name}"),
        ];
        let words = words.map(OsString::from);
        let output = self.runtime().exec(&jvm.container, &words, false).output();
        let output = output.map_err(|error| self.runtime().absent(&error))?;
        let said = String::from_utf8_lossy(&output.stdout);
        // jcmd ends with 0 also when the JVM could not write.
        if !output.status.success() || !said.contains("Heap dump file created") {
            let error = String::from_utf8_lossy(&output.stderr);
            let last = said
                .lines()
                .chain(error.lines())
                .last()
                .unwrap_or("it said nothing")
                .to_owned();
            return Err(LifecycleError::Unavailable {
                what: format!("{} wrote no heap dump: {last}", jvm.process.entry),
                hint: format!(
                    "is there room in {}?",
                    self.state_dir().join("data").display()
                ),
            });
        }
        let path = self.state_dir().join("data").join(&name);
        // The data are the application's: the file is looked at, not followed.
        let size = std::fs::symlink_metadata(&path).on("read", &path)?.len();
        Ok(HeapDump { path, size })
    }

    fn running_processes(&self, entry: Option<&str>) -> Result<Vec<Process>> {
        let all = self.processes(entry)?;
        if all.is_empty() {
            return Err(self.not_running(entry));
        }
        Ok(all)
    }

    /// The first JVM of an entry point.
    fn jvm(&self, entry: Option<&str>) -> Result<Jvm> {
        let all = self.running_processes(entry)?;
        let found = all.into_iter().find_map(|process| {
            let container = format!("{}.{}", self.name(), process.entry);
            Jvm::of(process, container)
        });
        found.ok_or_else(|| LifecycleError::Unavailable {
            what: format!("no Java runs in {}", entry.unwrap_or(self.name())),
            hint: format!("what runs there: metactl {} ps", self.name()),
        })
    }

    fn become_inside(&self, jvm: &Jvm, words: &[String]) -> Result<Infallible> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let runtime = self.runtime();
        let error = runtime.exec(&jvm.container, &words, false).exec();
        Err(runtime.absent(&error))
    }
}

/// A JVM that runs.
struct Jvm {
    process: Process,
    /// Its pid in its sandbox, which is how the tools of the JDK call it.
    inside: i32,
    container: String,
    /// Its Java, as seen in its sandbox.
    home: PathBuf,
}

impl Jvm {
    /// `process`, if it executes `HOME/bin/java`.
    fn of(process: Process, container: String) -> Option<Jvm> {
        let program = std::fs::read_link(format!("/proc/{}/exe", process.pid)).ok()?;
        if program.file_name()? != "java" {
            return None;
        }
        Some(Jvm {
            inside: process.inside?,
            home: program.parent()?.parent()?.to_owned(),
            container,
            process,
        })
    }

    /// `HOME/bin/NAME`, if it is there in the sandbox.
    fn tool(&self, name: &str) -> Option<String> {
        let path = self.home.join("bin").join(name);
        let root = format!("/proc/{}/root", self.process.pid);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = fs::open(root, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
        // The sandbox's links lead to places in the sandbox.
        fs::openat2(root, &path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
        path.into_os_string().into_string().ok()
    }

    fn no_tool(&self, name: &str) -> LifecycleError {
        LifecycleError::Unavailable {
            what: format!("{} has no {name}: it is a JRE", self.home.display()),
            hint: "install its JDK on this server (Debian: openjdk-VERSION-jdk-headless), or name one with jvm.home".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_are_told_all_processes() {
        let process = |pid| Process {
            entry: "web".into(),
            pid,
            inside: Some(1),
            parent: 1,
            uid: 66000,
            gid: 66000,
            state: 'S',
            memory: 0,
            threads: 1,
            cpu: 0,
            seconds: 0,
            command: "x".into(),
        };
        let both = [process(7), process(9)];
        assert_eq!(
            Watcher::Strace.arguments(&both),
            ["-f", "-p", "7", "-p", "9"]
        );
        assert_eq!(Watcher::Lsof.arguments(&both), ["-nPl", "-a", "-p", "7,9"]);
    }
}
