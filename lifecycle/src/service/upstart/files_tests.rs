use super::*;

fn job(name: &str, instance: &str) -> Job {
    Job {
        name: name.to_owned(),
        text: format!("# x\n{MARK}instance: {instance}\n\nexec true\n"),
        private: name.ends_with("-web"),
    }
}

struct Dirs(tempfile::TempDir);

impl Dirs {
    fn new() -> Dirs {
        let dirs = Dirs(tempfile::tempdir().unwrap());
        for name in ["init", "cron.d"] {
            std::fs::create_dir(dirs.0.path().join(name)).unwrap();
        }
        dirs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn install(&self, instance: &str, jobs: &[Job], crontab: Option<&str>) -> Result<bool> {
        let (init, cron) = (self.path("init"), self.path("cron.d"));
        super::install((&init, &cron), instance, jobs, crontab)
    }

    fn remove(&self, instance: &str) -> Result<bool> {
        super::remove((&self.path("init"), &self.path("cron.d")), instance)
    }
}

#[test]
fn jobs_are_replaced_and_stale_ones_removed() {
    use std::os::unix::fs::PermissionsExt;
    let dirs = Dirs::new();
    let whole = || job("metactl@a", "a");
    let crontab = format!("# x\n{MARK}instance: a\n0 0 * * * root x\n");
    let web = job("metactl-a-web", "a");
    assert!(
        dirs.install("a", &[whole(), web.clone()], Some(&crontab))
            .unwrap()
    );
    assert!(!dirs.install("a", &[whole(), web], Some(&crontab)).unwrap());
    let web = dirs.path("init/metactl-a-web.conf");
    let mode = std::fs::metadata(&web).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Of another instance whose name begins alike, and of the administrator.
    dirs.install("a-b", &[job("metactl@a-b", "a-b")], None)
        .unwrap();
    let own = "init/metactl-a-own.conf";
    std::fs::write(dirs.path(own), "exec true\n").unwrap();
    let theirs = "init/metactl-a-web.override";
    std::fs::write(dirs.path(theirs), "nice 5\n").unwrap();
    assert!(dirs.install("a", &[whole()], None).unwrap());
    assert!(!web.exists() && !dirs.path("cron.d/metactl-a").exists());
    assert!(dirs.remove("a").unwrap());
    for stays in ["init/metactl@a-b.conf", own, theirs] {
        assert!(dirs.path(stays).exists(), "{stays}");
    }
    for gone in ["init/metactl@a.conf", "init/metactl@a.override"] {
        assert!(!dirs.path(gone).exists(), "{gone}");
    }
}

#[test]
fn what_is_not_metactls_is_left_alone() {
    let dirs = Dirs::new();
    std::fs::write(dirs.path("cron.d/metactl-a"), "0 0 * * * root own\n").unwrap();
    let jobs = [job("metactl@a", "a")];
    let error = dirs.install("a", &jobs, None).unwrap_err().to_string();
    assert!(error.contains("not metactl's"), "{error}");
    assert!(!dirs.path("init/metactl@a.conf").exists());
    assert!(dirs.remove("a").is_ok() && dirs.path("cron.d/metactl-a").exists());
    dirs.install("a-b", &[job("metactl-a-b-c", "a-b")], None)
        .unwrap();
    let jobs = [job("metactl-a-b-c", "a")];
    std::fs::remove_file(dirs.path("cron.d/metactl-a")).unwrap();
    let error = dirs.install("a", &jobs, None).unwrap_err().to_string();
    assert!(error.contains("instance a-b"), "{error}");
    let link = dirs.path("init/metactl@a.conf");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let error = dirs
        .install("a", &[job("metactl@a", "a")], None)
        .unwrap_err();
    assert!(error.to_string().contains("a link"), "{error}");
}

#[test]
fn an_override_of_the_administrator_stays() {
    let dirs = Dirs::new();
    let init = dirs.path("init");
    let path = dirs.path("init/metactl@a.override");
    dirs.install("a", &[job("metactl@a", "a")], None).unwrap();
    assert!(!is_enabled(&init, "a"), "new, and not enabled");
    enable(&init, "a", true).unwrap();
    assert!(is_enabled(&init, "a") && !path.exists());
    std::fs::write(&path, "nice 5").unwrap();
    assert!(is_enabled(&init, "a"));
    enable(&init, "a", false).unwrap();
    enable(&init, "a", false).unwrap();
    assert!(!is_enabled(&init, "a"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(MANUAL).count(), 1, "{text}");
    assert!(text.starts_with("nice 5\n"), "{text}");
    enable(&init, "a", true).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "nice 5\n");
    // What the administrator says holds.
    std::fs::write(&path, "manual\n").unwrap();
    let error = enable(&init, "a", true).unwrap_err().to_string();
    assert!(error.contains("take the line away"), "{error}");
    dirs.remove("a").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "manual\n");
}

#[test]
fn the_link_leads_to_one_bundle_or_the_other() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(bundle(dir.path()).unwrap(), None);
    for digest in ["d1", "d2"] {
        lead_to(dir.path(), digest).unwrap();
        assert_eq!(bundle(dir.path()).unwrap().as_deref(), Some(digest));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
