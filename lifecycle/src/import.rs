//! `metactl import`: configurations of others become layers of new instances.
//!
//! Two steps: [`Manager::import`] only reads and says what each file would become,
//! [`Manager::import_write`] writes it. The files are never run, and stay as they are.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use metactl_bundles::import::{Imported, jvmctl, systemd};
use metactl_bundles::layers::MAX_FILE;
use metactl_bundles::redact;

use crate::error::{LifecycleError, OnPath, Result};
use crate::manager::{Manager, has_state};
use crate::{files, names};

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// jvmctl: `NAME.conf`.
    Jvmctl,
    /// systemd: `NAME.service`.
    Systemd,
}

/// What a file would become.
#[derive(Debug, Clone)]
pub struct Import {
    /// The file.
    pub file: PathBuf,
    /// The name of the new instance.
    pub name: String,
    /// Its layers, and what could not be carried over.
    pub imported: Imported,
    /// Where the app layer is written, to be committed to the repository.
    pub app_layer: PathBuf,
    /// Where the local layer is written.
    pub local_layer: PathBuf,
    /// Why it cannot be written, if so.
    pub refused: Option<String>,
}

impl Manager {
    /// Reads a file, or every file of its kind in a directory. Changes nothing.
    ///
    /// # Errors
    /// A path that cannot be read, and a directory without such files. What is wrong with a single
    /// file of a directory is in its [`Import::refused`].
    pub fn import(&self, foreign: Foreign, path: &Path) -> Result<Vec<Import>> {
        if !path.is_dir() {
            let mut import = self.import_file(foreign, path);
            // A file that was named has to be one.
            return match import.refused.take() {
                Some(why) => Err(LifecycleError::Setting {
                    what: format!("{}: {why}", path.display()),
                    hint: "name another file, or give this one another name".to_owned(),
                }),
                None => Ok(vec![import]),
            };
        }
        let kind = foreign.extension();
        let mut found = files::entries(path)?;
        found.retain(|file| file.extension().is_some_and(|extension| extension == kind));
        if found.is_empty() {
            return Err(LifecycleError::Setting {
                what: format!("there is no *.{kind} in {}", path.display()),
                hint: "name the directory that has the files, or one of them".to_owned(),
            });
        }
        let read = found.iter().map(|file| {
            let mut import = self.import_file(foreign, file);
            if leads_out(file, path) {
                import.imported = Imported::default();
                import.refused = Some("it is a link that leads out of the directory".to_owned());
            }
            import
        });
        Ok(read.collect())
    }

    fn import_file(&self, foreign: Foreign, file: &Path) -> Import {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        // jvmctl calls its units so.
        let name = stem.strip_prefix("jvm:").unwrap_or(&stem).to_owned();
        let (imported, unread) = match read(file) {
            Ok(text) => (foreign.layers(&name, &text), None),
            Err(why) => (Imported::default(), Some(why)),
        };
        let mut import = Import {
            file: file.to_owned(),
            app_layer: self
                .paths
                .config
                .join("imported")
                .join(format!("{name}.metactl")),
            local_layer: self.paths.local_layer(&name),
            imported,
            refused: unread,
            name,
        };
        import.refused = import.refused.take().or_else(|| self.refusal(&import));
        import
    }

    /// Why an import cannot be written.
    fn refusal(&self, import: &Import) -> Option<String> {
        if let Err(error) = names::check(&import.name) {
            return Some(error.to_string());
        }
        if import.imported.app.is_empty() {
            return Some("nothing in it says what runs".to_owned());
        }
        let taken = |path: &Path| Some(format!("{} is there already", path.display()));
        if import.local_layer.symlink_metadata().is_ok() {
            return taken(&import.local_layer);
        }
        // Of an import whose instance was deleted since; nothing of it would be lost.
        let same = import.has_app_layer();
        if !same && import.app_layer.symlink_metadata().is_ok() {
            return taken(&import.app_layer);
        }
        let state = self.paths.instance_state(&import.name);
        has_state(&state).then(|| format!("there is an instance {} already", import.name))
    }

    /// Writes the layers of every import that is not refused; returns the files. None of them is
    /// there when one cannot be written.
    ///
    /// # Errors
    /// A step on disk that failed.
    pub fn import_write(&self, imports: &[Import]) -> Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for import in imports.iter().filter(|import| import.refused.is_none()) {
            if let Err(error) = write(import, &mut written) {
                for path in &written {
                    // The error that led here is the one to tell.
                    let _kept = files::remove_file(path);
                }
                return Err(error);
            }
        }
        Ok(written)
    }
}

impl Foreign {
    fn extension(self) -> &'static str {
        match self {
            Foreign::Jvmctl => "conf",
            Foreign::Systemd => "service",
        }
    }

    fn layers(self, name: &str, text: &str) -> Imported {
        match self {
            Foreign::Jvmctl => jvmctl::import(name, text),
            Foreign::Systemd => systemd::import(text),
        }
    }
}

impl Import {
    /// The two layers as they are written.
    fn texts(&self) -> [(&PathBuf, String); 2] {
        let from = self.file.display().to_string().replace('\n', " ");
        let Imported { app, local, .. } = &self.imported;
        let app = format!(
            "# From {from}. Commit it as .metactl at the top of the repository.\n{}",
            app.text()
        );
        let local = format!("# From {from}.\n{}", local.text());
        [(&self.app_layer, app), (&self.local_layer, local)]
    }

    /// Whether the app layer is there, just as it would be written.
    fn has_app_layer(&self) -> bool {
        let [(path, text), _] = self.texts();
        let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        is_file && files::read(path).is_ok_and(|there| there.as_deref() == Some(text.as_bytes()))
    }
}

/// Whether a file of a directory is a link to somewhere else: who may put it there need not be one who may read that.
fn leads_out(file: &Path, dir: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    file.is_symlink()
        && whole(file)
            .zip(whole(dir))
            .is_none_or(|(file, dir)| !file.starts_with(dir))
}

fn write(import: &Import, written: &mut Vec<PathBuf>) -> Result<()> {
    for (path, text) in import.texts() {
        if *path == import.app_layer && import.has_app_layer() {
            continue;
        }
        if let Some(dir) = path.parent() {
            files::make_dir(dir, 0o755)?;
        }
        // Checked before; made new, so that nothing that came meanwhile is lost.
        File::create_new(path).on("make", path)?;
        written.push(path.clone());
        let mode = if says_secret(&text) { 0o600 } else { 0o644 };
        files::replace(path, text.as_bytes(), mode)?;
    }
    Ok(())
}

fn says_secret(text: &str) -> bool {
    text.lines()
        .any(|line| !redact::hidden_ranges(line).is_empty())
}

/// The text of a file of a stranger.
fn read(path: &Path) -> std::result::Result<String, String> {
    let facts = path.metadata().map_err(|error| error.to_string())?;
    if !facts.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    match file.take(MAX_FILE + 1).read_to_string(&mut text) {
        Ok(length) if length as u64 > MAX_FILE => Err("it is larger than 1 MiB".to_owned()),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err("it is not UTF-8".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metactl_bundles::paths::Paths;
    use std::fs;

    fn manager(root: &Path) -> Manager {
        Manager {
            paths: Paths::under(root),
            runtime: "/no/such/runtime".into(),
            metactl: "/no/such/metactl".into(),
        }
    }

    #[test]
    fn a_link_out_of_the_directory_is_not_followed() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("apps");
        fs::create_dir(&dir).unwrap();
        fs::write(root.path().join("secret"), "PASSWORD=hush\n").unwrap();
        fs::write(dir.join("a.conf"), "PORT=1\n").unwrap();
        symlink("../secret", dir.join("b.conf")).unwrap();
        symlink("a.conf", dir.join("c.conf")).unwrap();
        symlink("nowhere", dir.join("d.conf")).unwrap();
        let found = manager(root.path()).import(Foreign::Jvmctl, &dir).unwrap();
        let refused: Vec<bool> = found.iter().map(|one| one.refused.is_some()).collect();
        assert_eq!(refused, [false, true, false, true]);
        assert!(found[1].imported.local.text().is_empty());
        assert!(found[1].imported.left.is_empty());
    }

    #[test]
    fn a_directory_is_read_before_anything_is_written() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let manager = manager(root.path());
        let dir = root.path().join("apps");
        fs::create_dir(&dir).unwrap();
        for (name, text) in [
            ("shop.conf", "PORT=8080\nHEAP_SIZE=256m\nDB_PASSWORD=hush\n"),
            (
                "blog.conf",
                "PORT=8081\nCONTAINER=none\nAPP_OPTS=-jar blog.jar\nOOM_EMAIL=x\n",
            ),
            ("deploy.conf", "PORT=8082\n"),
            ("a.b.conf", "PORT=8082\n"),
            ("README", "no configuration"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        fs::write(dir.join("bytes.conf"), b"A=\xff").unwrap();
        let found = manager.import(Foreign::Jvmctl, &dir).unwrap();
        let said: Vec<(&str, Option<&str>)> = found
            .iter()
            .map(|import| (import.name.as_str(), import.refused.as_deref()))
            .collect();
        assert_eq!(said.len(), 5);
        assert!(said[0].1.is_some_and(|why| why.contains("a.b")));
        assert_eq!(said[1], ("blog", None));
        assert_eq!(said[2], ("bytes", Some("it is not UTF-8")));
        assert!(said[3].1.is_some_and(|why| why.contains("command")));
        assert_eq!(said[4], ("shop", None));
        assert_eq!(found[1].imported.left.len(), 1);
        assert!(!manager.paths.config.exists(), "only read so far");

        let written = manager.import_write(&found).unwrap();
        assert_eq!(written.len(), 4);
        let shop = manager.paths.local_layer("shop");
        assert!(fs::read_to_string(&shop).unwrap().contains("port = 8080"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&shop), mode(&manager.paths.local_layer("blog"))),
            (0o600, 0o644)
        );
        // A second time nothing is overwritten.
        let again = manager.import(Foreign::Jvmctl, &dir).unwrap();
        assert!(again.iter().all(|import| import.refused.is_some()));
        assert!(manager.import_write(&again).unwrap().is_empty());
        let error = manager
            .import(Foreign::Jvmctl, &dir.join("shop.conf"))
            .unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        // When the instance is gone, the file for its repository is in nobody's way, unless somebody has changed it.
        fs::remove_file(&shop).unwrap();
        let blog = manager.paths.local_layer("blog");
        fs::remove_file(&blog).unwrap();
        fs::write(&found[1].app_layer, "mine").unwrap();
        let again = manager.import(Foreign::Jvmctl, &dir).unwrap();
        assert!(again[1].refused.is_some() && again[4].refused.is_none());
        assert_eq!(manager.import_write(&again).unwrap(), [shop]);
        assert_eq!(fs::read_to_string(&found[1].app_layer).unwrap(), "mine");
        // What failed leaves nothing.
        fs::remove_dir_all(&manager.paths.config).unwrap();
        let found = manager.import(Foreign::Jvmctl, &dir).unwrap();
        fs::create_dir_all(manager.paths.local_layer("shop")).unwrap();
        assert!(manager.import_write(&found).is_err());
        assert!(!manager.paths.local_layer("blog").exists());
    }
}
