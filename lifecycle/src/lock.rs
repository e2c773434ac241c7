//! One change of an instance at a time, and who makes it.
//!
//! A lock is a file that is `flock`ed: the kernel lets go of it when its holder dies, however it
//! dies. The file says who holds it, and is removed with the lock.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::person::Person;

/// How often a lock that somebody holds is tried again.
const RETRY: Duration = Duration::from_millis(25);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

/// Somebody else holds the lock: who, in words.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) String);

impl Lock {
    /// Waits up to `timeout` for the lock of an instance.
    pub(crate) fn of_instance(
        run: &Path,
        instance: &str,
        doing: &str,
        timeout: Duration,
    ) -> Result<Lock> {
        let path = run.join("locks").join(format!("{instance}.lock"));
        Lock::acquire(&path, doing, timeout)?.map_err(|held| LifecycleError::Locked {
            instance: instance.to_owned(),
            holder: held.0,
        })
    }

    /// Waits up to `timeout` for the lock at `path`. `doing` is what the holder tells others.
    pub(crate) fn acquire(
        path: &Path,
        doing: &str,
        timeout: Duration,
    ) -> Result<std::result::Result<Lock, Held>> {
        let start = Instant::now();
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Another one may have removed the file in between: then the lock is nobody's.
                Ok(()) if is_still(&file, path) => {
                    let mut lock = Lock {
                        file,
                        path: path.to_path_buf(),
                    };
                    lock.sign(doing);
                    return Ok(Ok(lock));
                }
                Ok(()) => continue,
                Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() >= timeout => {
                    return Ok(Err(Held(holder(&file))));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(RETRY),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).on("lock", path),
            }
        }
    }

    /// Writes who holds it. Only a courtesy for others: on a full disk they are told less.
    fn sign(&mut self, doing: &str) {
        let text = format!(
            "{}, pid {}, {doing}, since {}\n",
            person(),
            std::process::id(),
            files::now()
        );
        let _courtesy = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()));
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held; whoever waits sees that the file is another one.
        let _gone = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        files::make_dir(dir, 0o755)?;
    }
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644);
    options.open(path).on("lock", path)
}

fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn holder(mut file: &File) -> String {
    let mut text = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(4096).read_to_string(&mut text));
    match (read, text.trim()) {
        (Ok(_), text) if !text.is_empty() => text.to_owned(),
        _ => "somebody".to_owned(),
    }
}

/// The login name of the person behind this process: behind sudo too.
pub(crate) fn person() -> String {
    // Who that is does not change, and accounts are in files.
    static LOGIN: OnceLock<String> = OnceLock::new();
    LOGIN.get_or_init(|| Person::behind().login).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path();
        let first = Lock::of_instance(run, "a", "deploy 1.2", Duration::ZERO).unwrap();
        let second = Lock::of_instance(run, "a", "start", Duration::from_millis(60));
        let error = second.unwrap_err().to_string();
        assert!(
            error.contains("deploy 1.2") && error.contains("pid "),
            "{error}"
        );
        assert!(Lock::of_instance(run, "b", "start", Duration::ZERO).is_ok());
        drop(first);
        assert!(
            files::entries(&run.join("locks")).unwrap().is_empty(),
            "no file stays"
        );
        assert!(Lock::of_instance(run, "a", "start", Duration::ZERO).is_ok());
    }

    #[test]
    fn many_at_once_hold_it_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let wait = Duration::from_secs(60);
                        let lock = Lock::of_instance(dir.path(), "a", "x", wait).unwrap();
                        let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(others, 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
