use std::fs;

use super::*;

/// A checkout with a `.metactl`, and a configuration directory with sites.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(app: &str, sites: &[(&str, &str)]) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let scene = Scene { dir };
        scene.write("myapp/.metactl", app);
        for (path, text) in sites {
            scene.write(&format!("etc/metactl/sites/{path}"), text);
        }
        scene
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn check(&self, site: Option<&str>) -> Result<Checked, Report> {
        let path = self.dir.path().join("myapp");
        let request = Request {
            path: &path,
            site,
            app: None,
        };
        check(&Paths::under(self.dir.path()), &request)
    }
}

const SANDBOX: &str = include_str!("../../testdata/seed/sandbox-app.metactl");
const SITE: &str = include_str!("../../testdata/seed/sandbox-site.conf");

#[test]
fn a_repository_alone_names_what_it_needs() {
    let checked = Scene::new(SANDBOX, &[]).check(None).unwrap();
    assert_eq!(
        (checked.app.as_str(), checked.daemons()),
        ("myapp", vec!["webapp"])
    );
    let needed: Vec<String> = checked
        .config
        .needed()
        .iter()
        .map(|needed| format!("{} {}", needed.name, needed.origin))
        .collect();
    assert_eq!(needed, ["DB_HOST .metactl:9", "DB_PORT .metactl:9"]);
    assert!(checked.config.requests().is_empty() && checked.config.warnings().is_empty());
}

#[test]
fn with_a_site_nothing_is_missing() {
    let scene = Scene::new(SANDBOX, &[("prod/myapp.conf", SITE)]);
    let checked = scene.check(Some("prod")).unwrap();
    assert!(checked.config.needed().is_empty());
    let database = checked
        .config
        .get("firewall.out.accept", "database")
        .unwrap();
    assert_eq!(database.text, "mysql.example.org:3306");
    let report = scene.check(Some("prd")).unwrap_err().to_string();
    assert!(
        report.contains("there is no site `prd`") && report.contains("`prod`?"),
        "{report}"
    );
    assert!(scene.check(Some("../x")).is_err());
}

#[test]
fn what_only_a_site_may_grant_is_a_request() {
    let app = "[daemon.web]\ncommand = x\nport = %(PORT_OF_SITE)\n[sandbox.net]\nmode = routed\n\
               [sandbox.mounts]\n/mnt/photos = /srv/photos rw\n";
    let checked = Scene::new(app, &[]).check(None).unwrap();
    let [request] = checked.config.requests() else {
        panic!("{:?}", checked.config.requests())
    };
    assert_eq!(request.origin.line, 7);
    assert_eq!(
        request.grant,
        "[sandbox.mounts]\n/mnt/photos = /srv/photos rw"
    );
    assert_eq!(checked.config.needed()[0].name, "PORT_OF_SITE");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let app = "[bulid]\ncommand = x\n[daemon.web]\nplatform = jety9\n[env]\nA = %(A)\n";
    let report = Scene::new(app, &[]).check(None).unwrap_err();
    assert_eq!(report.diagnostics().len(), 3, "{report}");
    let nothing = Scene::new("[env]\nA = 1\n", &[]).check(None).unwrap_err();
    assert!(nothing.to_string().contains("nothing to run"));
}

#[test]
fn a_link_is_not_followed_and_a_missing_file_is_named() {
    let scene = Scene::new("", &[]);
    let file = scene.dir.path().join("myapp/.metactl");
    fs::remove_file(&file).unwrap();
    let missing = scene.check(None).unwrap_err().to_string();
    assert!(
        missing.contains("no such file") && missing.contains(".metactl"),
        "{missing}"
    );
    scene.write("secret", "[daemon.x]\ncommand = hunter2\n");
    std::os::unix::fs::symlink(scene.dir.path().join("secret"), &file).unwrap();
    let link = scene.check(None).unwrap_err().to_string();
    assert!(
        link.contains("symbolic link") && !link.contains("hunter2"),
        "{link}"
    );
}
