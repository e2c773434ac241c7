//! What an application sees of the file system, asked path by path: on a host that is not there.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation is the failure of the test"
)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metactl_bundles::bundle;
use metactl_bundles::layers::{LayerKind, Source};
use metactl_bundles::model;
use metactl_bundles::view::{Fact, Kind};
use metactl_bundles::why::Answer;
use metactl_bundles::why::path::{Disk, Found, Seen};
use support::{debian, somewhere};

const APP: &str = "\
[daemon.web]
command = ./server

[sandbox.mounts]
/mnt/asked = /srv/asked rw
";
const LOCAL: &str = "\
[env]
PHOTOS = /srv/photos

[sandbox.mounts]
/mnt/photos = %(PHOTOS)
/mnt/inbox = /srv/inbox rw
";

/// What is on the server: links by their text, everything else that is named exists.
struct Server(BTreeMap<&'static str, Found>);

impl Disk for Server {
    fn look(&self, path: &Path) -> Found {
        let path = path.to_str().unwrap();
        self.0.get(path).cloned().unwrap_or(Found::Nothing)
    }
}

fn ask(path: &str) -> Answer {
    let source =
        |layer, path: &str, text: &str| Source::new(layer, PathBuf::from(path), text.to_owned());
    let sources = vec![
        source(LayerKind::App, ".metactl", APP),
        source(LayerKind::Local, "/etc/metactl/nodes/myapp.conf", LOCAL),
    ];
    let (config, app) = model::load(sources, "myapp").unwrap_or_else(|report| panic!("{report}"));
    let mut host = debian();
    for folder in ["/srv/photos", "/srv/inbox"] {
        let path = PathBuf::from(folder);
        host.sources
            .insert(path.clone(), Fact::Real(Kind::Directory, path));
    }
    let view = bundle::view(&app, &config, &somewhere(), &host).unwrap();
    let seen = Seen {
        config: &config,
        app: &app,
        view: &view,
    };
    let link = |text: &str| Found::Link(PathBuf::from(text));
    let server = Server(BTreeMap::from([
        ("/usr/bin/env", Found::Something),
        ("/usr/bin/round", link("around")),
        ("/usr/bin/around", link("round")),
        ("/usr/bin/java", link("/mnt/photos/java")),
        ("/srv/photos/java", Found::Something),
        ("/srv/photos/cat.jpg", Found::Something),
        ("/srv/inbox", Found::Something),
    ]));
    seen.answer(&server, Path::new(path))
}

#[track_caller]
fn says(path: &str, wanted: &[&str]) {
    let answer = ask(path);
    let because: Vec<String> = answer
        .because
        .iter()
        .map(|because| {
            let origin = because.origin.as_ref().map(|origin| format!("{origin} "));
            format!("{}{}", origin.unwrap_or_default(), because.text)
        })
        .collect();
    let text = format!(
        "{} {}: {}",
        answer.verdict.name(),
        answer.how.unwrap_or_default(),
        because.join(" | ")
    );
    for part in wanted {
        assert!(text.contains(part), "{path}: no {part:?} in {text}");
    }
}

#[test]
fn every_kind_of_place() {
    says(
        "/usr/bin/env",
        &["yes read-only", "the default view shows /usr"],
    );
    says("/bin/env", &["yes read-only", "it leads to /usr/bin/env"]);
    says("/usr/bin/none", &["yes read-only", "nothing at this path"]);
    says("/app/server", &["yes read-only", "the release"]);
    says("/data/db", &["yes read-write", "the instance's data"]);
    says("/tmp/x", &["yes read-write", "private /tmp"]);
    says("/var/tmp/x", &["yes read-write", "it leads to /tmp/x"]);
    says("/etc/passwd", &["yes read-only", "made for the instance"]);
    says("/etc/hosts", &["yes read-only", "names that it may reach"]);
    says(
        "/proc/1/environ",
        &["yes the kernel's", "its own processes"],
    );
    says("/", &["yes read-only"]);
}

#[test]
fn mounts_name_their_line() {
    says(
        "/mnt/photos/cat.jpg",
        &[
            "yes read-only",
            "nodes/myapp.conf:5 /mnt/photos = /srv/photos",
        ],
    );
    says("/mnt/inbox", &["yes read-write", "nodes/myapp.conf:6"]);
    let names = ask("/mnt/photos/cat.jpg").because.remove(0).names;
    assert_eq!(names[0].0, "PHOTOS");
    assert_eq!(names[0].1.to_string(), "nodes/myapp.conf:2");
    // By the server's path, too.
    says(
        "/srv/photos/cat.jpg",
        &["yes read-only, as /mnt/photos/cat.jpg"],
    );
    // A link is followed inside, not on the server.
    says(
        "/usr/bin/java",
        &["yes read-only", "/mnt/photos/java", "nodes/myapp.conf:5"],
    );
    says("/usr/bin/round", &["no", "lead back"]);
    says("/mnt/photos/../inbox/x", &["yes read-write", "/mnt/inbox"]);
}

#[test]
fn a_no_names_the_line_that_would_show_it() {
    says("/srv/other", &["no", "nothing shows /srv/other"]);
    let allow = ask("/srv/other").allow.remove(0);
    assert_eq!(allow.lines, "[sandbox.mounts]\n/srv/other = /srv/other ro");
    assert_eq!(
        allow.command,
        ["set", "sandbox.mounts:/srv/other=/srv/other ro"]
    );
    says(
        "/mnt/asked/x",
        &["no", ".metactl:5", "asked for, not granted"],
    );
    let granted = ask("/mnt/asked/x").allow.remove(0);
    assert_eq!(
        granted.lines,
        "[sandbox.mounts]\n/mnt/asked = /srv/asked rw"
    );
    assert!(ask("/sys/kernel").allow.is_empty());
    says("/etc/shadow", &["no"]);
    says("/root/.ssh", &["no"]);
}
