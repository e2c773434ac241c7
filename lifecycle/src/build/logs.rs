//! The logs of deployments: `<log>/<instance>/build-<n>.log`, n being the number of the deployment.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Workshop;
use crate::access::shared;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::launcher::append;
use crate::progress::Progress;

/// How many logs of deployments are kept.
const KEEP_LOGS: usize = 10;

impl Workshop {
    /// The log of the next deployment, and its number. `head` is its first line.
    pub(crate) fn next_log(&self, head: &str) -> Result<(PathBuf, u64)> {
        files::make_dir(&self.log_dir, 0o750)?;
        shared::share_dir(&self.log_dir)?;
        let number = self.logs()?.last().map_or(0, |(number, _)| *number) + 1;
        let log = self.log_dir.join(format!("build-{number}.log"));
        let written = append(&log).and_then(|mut file| writeln!(file, "{head}").on("write", &log));
        if let Err(error) = written {
            files::remove_file(&log)?;
            return Err(error);
        }
        self.forget_logs(number)?;
        Ok((log, number))
    }

    fn logs(&self) -> Result<Vec<(u64, PathBuf)>> {
        let number = |path: &Path| {
            files::name_of(path)
                .strip_prefix("build-")?
                .strip_suffix(".log")?
                .parse()
                .ok()
        };
        let paths = files::entries(&self.log_dir)?.into_iter();
        let mut logs: Vec<(u64, PathBuf)> = paths
            .filter_map(|path| Some((number(&path)?, path)))
            .collect();
        logs.sort();
        Ok(logs)
    }

    /// The log of a deployment that is still there.
    pub(crate) fn log(&self, number: u64) -> Result<PathBuf> {
        let logs = self.logs()?;
        let found = logs.iter().find(|(own, _)| *own == number);
        found
            .map(|(_, path)| path.clone())
            .ok_or_else(|| LifecycleError::Unavailable {
                what: format!(
                    "there is no log of deployment {number} of {}",
                    self.instance
                ),
                hint: match (logs.first(), logs.last()) {
                    (Some((first, _)), Some((last, _))) => {
                        format!("those of {first} to {last} are kept")
                    }
                    _ => format!("metactl {} deploy makes one", self.instance),
                },
            })
    }

    fn forget_logs(&self, newest: u64) -> Result<()> {
        for (number, path) in self.logs()? {
            if number + (KEEP_LOGS as u64) <= newest {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Reads a log while it is written.
pub(super) struct Follow {
    file: File,
    rest: Vec<u8>,
}

/// The most that is read in one go, and of one line.
const CHUNK: u64 = 64 << 10;

impl Follow {
    pub(super) fn from(log: &Path, at: u64) -> Result<Follow> {
        let mut file = File::open(log).on("read", log)?;
        file.seek(SeekFrom::Start(at)).on("read", log)?;
        Ok(Follow {
            file,
            rest: Vec::new(),
        })
    }

    /// Tells the lines that came: each of them, or how far it is.
    pub(super) fn tell(&mut self, verbose: bool, progress: &mut dyn Progress) {
        // What cannot be read now is in the log.
        let _read = (&self.file).take(CHUNK).read_to_end(&mut self.rest);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            if self.rest.len() as u64 > CHUNK {
                self.rest.clear();
            }
            return;
        };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = String::from_utf8_lossy(&lines).into_owned();
        let mut lines = lines.lines().filter(|line| !line.trim().is_empty());
        if verbose {
            lines.for_each(|line| progress.note(line));
        } else if let Some(last) = lines.next_back() {
            progress.update(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use metactl_bundles::paths::Paths;

    use super::*;
    use crate::launcher::Runtime;

    #[test]
    fn logs_are_numbered_and_old_ones_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let runtime = Runtime::new(Path::new("/no/runtime"), &paths);
        let workshop = Workshop::new(&paths, runtime, "a");
        for expected in 1..=12 {
            let (log, number) = workshop.next_log("deploy").unwrap();
            assert_eq!(number, expected);
            assert_eq!(fs::read_to_string(log).unwrap(), "deploy\n");
        }
        let logs = workshop.logs().unwrap();
        assert_eq!((logs.len(), logs[0].0), (10, 3));
        assert!(workshop.log(12).is_ok());
        let error = workshop.log(2).unwrap_err();
        assert!(error.hint().unwrap().contains("3 to 12"), "{error}");
    }
}
