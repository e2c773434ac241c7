//! Where metactl keeps things. Every root directory can be moved, so that tests and unprivileged
//! users can have a whole metactl of their own under one folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The root directories of one metactl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Configuration, `/etc/metactl` (`METACTL_CONFIG_DIR`).
    pub config: PathBuf,
    /// Instances, `/var/lib/metactl` (`METACTL_STATE_DIR`).
    pub state: PathBuf,
    /// What can be fetched again, `/var/cache/metactl` (`METACTL_CACHE_DIR`).
    pub cache: PathBuf,
    /// Log files, `/var/log/metactl` (`METACTL_LOG_DIR`).
    pub log: PathBuf,
    /// What a reboot may take away, `/run/metactl` (`METACTL_RUN_DIR`).
    pub run: PathBuf,
}

impl Paths {
    /// The directories of the Filesystem Hierarchy Standard, below `root`.
    pub fn under(root: &Path) -> Paths {
        Paths {
            config: root.join("etc/metactl"),
            state: root.join("var/lib/metactl"),
            cache: root.join("var/cache/metactl"),
            log: root.join("var/log/metactl"),
            run: root.join("run/metactl"),
        }
    }

    /// The directories that the environment names: each `METACTL_*_DIR` wins over `METACTL_ROOT`,
    /// which wins over `/`.
    pub fn from_env(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Paths {
        let root = var("METACTL_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let base = Paths::under(&root);
        let pick = |name: &str, fallback: PathBuf| var(name).map_or(fallback, PathBuf::from);
        Paths {
            config: pick("METACTL_CONFIG_DIR", base.config),
            state: pick("METACTL_STATE_DIR", base.state),
            cache: pick("METACTL_CACHE_DIR", base.cache),
            log: pick("METACTL_LOG_DIR", base.log),
            run: pick("METACTL_RUN_DIR", base.run),
        }
    }

    /// Facts and defaults of this server: `metactl.conf`.
    pub fn server_conf(&self) -> PathBuf {
        self.config.join("metactl.conf")
    }

    /// The local layer of an instance: `nodes/<instance>.conf`.
    pub fn local_layer(&self, instance: &str) -> PathBuf {
        conf(&self.config.join("nodes"), instance)
    }

    /// The site layers, lowest first: `sites/<site>/site.conf`, then `sites/<site>/<app>.conf`.
    pub fn site_layers(&self, site: &str, app: &str) -> [PathBuf; 2] {
        let dir = self.site(site);
        [dir.join("site.conf"), conf(&dir, app)]
    }

    /// The layers of a site: `sites/<site>`.
    pub fn site(&self, site: &str) -> PathBuf {
        self.config.join("sites").join(site)
    }

    /// The state of an instance: releases, data, bundles.
    pub fn instance_state(&self, instance: &str) -> PathBuf {
        self.state.join(instance)
    }

    /// Where the names are written down that an instance has in a DNS zone. Not in its own state, which a
    /// deletion takes away, and not in `run`, which a reboot does.
    pub fn instance_dns(&self, instance: &str) -> PathBuf {
        self.state.join(".dns").join(format!("{instance}.json"))
    }

    /// What runs of an instance: pinned namespaces, journal, records of processes.
    pub fn instance_run(&self, instance: &str) -> PathBuf {
        self.run.join(instance)
    }

    /// The log files of an instance.
    pub fn instance_log(&self, instance: &str) -> PathBuf {
        self.log.join(instance)
    }

    /// Where the runtime keeps the state of containers (its `--root`).
    pub fn runtime_root(&self) -> PathBuf {
        self.run.join("oci")
    }
}

/// What a file is called that is being written whole beside `path`, to replace it: `.<name>.new`. It is always the same, so
/// that what a crash left is overwritten by the next one, and hidden, so that nobody who reads the folder takes it for one
/// of those that are whole.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// `<name>.conf` in a folder.
pub(crate) fn conf(folder: &Path, name: &str) -> PathBuf {
    let length = folder.as_os_str().len() + "/".len() + name.len() + ".conf".len();
    let mut path = PathBuf::with_capacity(length);
    path.push(folder);
    path.push(name);
    path.as_mut_os_string().push(".conf");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_unfinished_beside_its_place() {
        for (path, expected) in [
            ("/run/a/state.json", "/run/a/.state.json.new"),
            ("pid", ".pid.new"),
            ("/a.b/c", "/a.b/.c.new"),
        ] {
            assert_eq!(unfinished(path.as_ref()), Path::new(expected));
        }
    }

    #[test]
    fn single_directories_win_over_the_root() {
        let paths = Paths::from_env(|name| match name {
            "METACTL_ROOT" => Some("/tmp/m".into()),
            "METACTL_RUN_DIR" => Some("/elsewhere".into()),
            _ => None,
        });
        assert_eq!(paths.config, Path::new("/tmp/m/etc/metactl"));
        assert_eq!(paths.run, Path::new("/elsewhere"));
        assert_eq!(
            paths.local_layer("a"),
            Path::new("/tmp/m/etc/metactl/nodes/a.conf")
        );
    }
}
