//! Releases: what a build made, as root's own and never changed again.
//!
//! ```text
//! <state>/<instance>/releases/
//!   1.2.3-9f2c1e4-1/        what the application sees at /app
//!   1.2.3-9f2c1e4-1.json    where it came from
//! ```
//!
//! A release is complete or absent: it is copied to a name that nobody looks at, brought to the
//! disk, and renamed. Copying is also what makes it harmless: whatever the build left (owners,
//! set-uid bits, device files, links that lead out of it), only plain files and directories with
//! plain modes get through, and symbolic links that stay inside or lead to what every sandbox shows.

mod copy;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use copy::{check_room, copy_tree};
use serde::{Deserialize, Serialize};

use crate::error::{OnPath, Result};
use crate::files;
use crate::scm::Revision;
use crate::status::ReleaseInfo;

/// The format number of a release's record.
const FORMAT: u32 = 1;
/// The application's layer of configuration.
pub(crate) const APP_LAYER: &str = ".metactl";
/// What a release is called until it is complete.
const PARTIAL: &str = ".partial-";
/// How many releases are kept besides the one in use and the one before.
pub(crate) const KEEP: usize = 3;

/// The record of a release.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    format: u32,
    #[serde(flatten)]
    info: ReleaseInfo,
    /// The repository, without its password.
    repo: String,
    /// Who asked for it.
    by: String,
}

/// The releases of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Releases {
    dir: PathBuf,
}

impl Releases {
    /// Those in a state directory.
    pub(crate) fn of(state_dir: &Path) -> Releases {
        Releases {
            dir: state_dir.join("releases"),
        }
    }

    /// The directory of a release.
    pub(crate) fn path(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// What is known of a release.
    pub(crate) fn info(&self, id: &str) -> Result<Option<ReleaseInfo>> {
        let record: Option<Record> = files::read_json(&self.record(id))?;
        Ok(record.map(|record| record.info))
    }

    /// The ids of all complete releases.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let paths = files::entries(&self.dir)?.into_iter();
        let complete = paths.filter(|path| !files::name_of(path).starts_with('.') && path.is_dir());
        Ok(complete
            .map(|path| files::name_of(&path).to_owned())
            .collect())
    }

    /// All complete releases, the oldest first. One without a record is not told of.
    pub(crate) fn all(&self) -> Result<Vec<ReleaseInfo>> {
        let mut all = Vec::new();
        for id in self.ids()? {
            all.extend(self.info(&id)?);
        }
        all.sort_by_key(|release| number(&release.id));
        Ok(all)
    }

    /// The id of the next release of `revision`: `1.2.3-9f2c1e4-4`.
    pub(crate) fn next_id(&self, revision: &Revision) -> Result<String> {
        let last = self
            .ids()?
            .iter()
            .filter_map(|id| number(id))
            .max()
            .unwrap_or(0);
        let tag: String = revision
            .tag
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._+".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .take(60)
            .collect();
        let tag = tag.trim_start_matches(['.', '-']);
        Ok(format!("{tag}-{}-{}", revision.short(), last + 1))
    }

    /// Makes a release from `output`, which belongs to an unprivileged user, and the application's
    /// layer as it stands in the repository.
    pub(crate) fn make(
        &self,
        id: &str,
        output: &Path,
        app_layer: Option<&[u8]>,
        revision: &Revision,
        repo: &str,
    ) -> Result<ReleaseInfo> {
        self.tidy()?;
        files::make_dir(&self.dir, 0o755)?;
        let partial = self.dir.join(format!("{PARTIAL}{id}"));
        let info = ReleaseInfo {
            id: id.to_owned(),
            tag: revision.tag.clone(),
            commit: revision.commit.clone(),
            built: files::now(),
        };
        let record = Record {
            format: FORMAT,
            info: info.clone(),
            repo: repo.to_owned(),
            by: crate::lock::person(),
        };
        let made = check_room(output, &self.dir)
            .and_then(|()| copy_tree(output, &partial))
            .and_then(|()| write_app_layer(&partial, app_layer))
            .and_then(|()| sync_file_system(&partial))
            .and_then(|()| files::replace_json(&self.record(id), &record, 0o644))
            .and_then(|()| fs::rename(&partial, self.path(id)).on("write", &self.path(id)))
            .and_then(|()| files::sync_dir(&self.dir));
        match made {
            Ok(()) => Ok(info),
            Err(error) => {
                // The first error is the one to tell; what stays is removed by the next command.
                let _tidied = self.remove(id).and_then(|()| self.tidy());
                Err(error)
            }
        }
    }

    /// Removes a release, or what there is of it.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        let path = self.path(id);
        if path.exists() {
            // First a name that nobody takes for a release, so that half of one never counts.
            let partial = self.dir.join(format!("{PARTIAL}{id}"));
            files::remove_tree(&partial)?;
            fs::rename(&path, &partial).on("remove", &path)?;
            files::remove_tree(&partial)?;
        }
        files::remove_file(&self.record(id))?;
        files::remove_empty_dir(&self.dir);
        Ok(())
    }

    /// Removes what was never completed.
    pub(crate) fn tidy(&self) -> Result<()> {
        for path in files::entries(&self.dir)? {
            let name = files::name_of(&path);
            let orphan = name
                .strip_suffix(".json")
                .is_some_and(|id| !self.path(id).is_dir());
            if name.starts_with(PARTIAL) {
                files::remove_tree(&path)?;
            } else if orphan || name.starts_with('.') {
                files::remove_file(&path)?;
            }
        }
        files::remove_empty_dir(&self.dir);
        Ok(())
    }

    /// Removes all releases but the newest `count`, and never one of `keep`.
    pub(crate) fn prune(&self, keep: &[&str], count: usize) -> Result<()> {
        let mut old = self.ids()?;
        old.retain(|id| !keep.contains(&id.as_str()));
        old.sort_by_key(|id| number(id));
        let surplus = old.len().saturating_sub(count);
        for id in &old[..surplus] {
            self.remove(id)?;
        }
        Ok(())
    }

    fn record(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

/// The number at the end of a release's id: later ones have higher ones.
pub(crate) fn number(id: &str) -> Option<u64> {
    id.rsplit('-').next()?.parse().ok()
}

/// The application's layer comes from the commit, whatever folder of the checkout is the release
/// and whatever the build did to it.
fn write_app_layer(release: &Path, text: Option<&[u8]>) -> Result<()> {
    let path = release.join(APP_LAYER);
    match text {
        Some(text) => files::replace(&path, text, 0o644),
        None => files::remove_file(&path).map(drop),
    }
}

/// One sync for all files: much cheaper than one for each.
fn sync_file_system(path: &Path) -> Result<()> {
    let dir = File::open(path).on("write", path)?;
    rustix::fs::syncfs(&dir).on("write", path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn revision() -> Revision {
        Revision {
            tag: "feature/x 1".to_owned(),
            commit: "9f2c1e4".repeat(6)[..40].to_owned(),
            is_tag: true,
        }
    }

    #[test]
    fn a_release_has_plain_modes_and_its_own_layer() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        fs::create_dir_all(output.join("bin")).unwrap();
        fs::write(output.join("bin/tool"), "x").unwrap();
        fs::set_permissions(output.join("bin/tool"), fs::Permissions::from_mode(0o6777)).unwrap();
        fs::write(output.join("data"), "x").unwrap();
        fs::set_permissions(output.join("data"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("/etc/passwd", output.join(APP_LAYER)).unwrap();
        let releases = Releases::of(dir.path());
        let id = releases.next_id(&revision()).unwrap();
        assert_eq!(id, "feature-x-1-9f2c1e4-1");

        // A layer that is a link out is refused with the rest of the output.
        let error = releases
            .make(&id, &output, Some(b"[app]\n"), &revision(), "/repo")
            .unwrap_err();
        assert!(error.to_string().contains("/etc/passwd"), "{error}");
        assert!(!dir.path().join("releases").exists(), "nothing stays");

        fs::remove_file(output.join(APP_LAYER)).unwrap();
        let info = releases
            .make(&id, &output, Some(b"[app]\n"), &revision(), "/repo")
            .unwrap();
        let mode =
            |path: &str| fs::metadata(releases.path(&id).join(path)).unwrap().mode() & 0o7777;
        assert_eq!(
            (mode("bin/tool"), mode("data"), mode("bin")),
            (0o755, 0o644, 0o755)
        );
        assert_eq!(
            fs::read(releases.path(&id).join(APP_LAYER)).unwrap(),
            b"[app]\n"
        );
        assert_eq!(releases.info(&id).unwrap(), Some(info));
        assert_eq!(
            releases.next_id(&revision()).unwrap(),
            "feature-x-1-9f2c1e4-2"
        );
    }

    #[test]
    fn more_than_fits_is_refused_before_it_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        fs::create_dir(&output).unwrap();
        let system = rustix::fs::statvfs(dir.path()).unwrap();
        let sparse = File::create(output.join("sparse")).unwrap();
        let size = system.f_blocks * system.f_frsize + (1 << 30);
        sparse.set_len(size).unwrap();
        let error = Releases::of(dir.path())
            .make("1-a-1", &output, None, &revision(), "/repo")
            .unwrap_err();
        assert!(error.to_string().contains("are free at"), "{error}");
        assert!(!dir.path().join("releases").exists(), "nothing stays");
    }

    #[test]
    fn special_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        fs::create_dir(&output).unwrap();
        let path = output.join("pipe");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, 0o644.into(), 0).unwrap();
        let releases = Releases::of(dir.path());
        let error = releases
            .make("1-a-1", &output, None, &revision(), "/repo")
            .unwrap_err();
        assert!(error.to_string().contains("pipe is a fifo"), "{error}");
    }

    #[test]
    fn old_releases_go_but_not_those_that_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        fs::create_dir(&output).unwrap();
        let releases = Releases::of(dir.path());
        for number in 1..=7 {
            let id = format!("1-a-{number}");
            releases
                .make(&id, &output, None, &revision(), "/repo")
                .unwrap();
        }
        releases.prune(&["1-a-1", "1-a-7"], KEEP).unwrap();
        assert_eq!(
            releases.ids().unwrap(),
            ["1-a-1", "1-a-4", "1-a-5", "1-a-6", "1-a-7"]
        );
    }
}
