//! `[secrets]`: who may say them, what is printed of them, and where their values are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use metactl_bundles::app::App;
use metactl_bundles::bundle;
use metactl_bundles::diagnostics::Report;
use metactl_bundles::layers::{Config, LayerKind, Source, render};
use metactl_bundles::{model, secrets};
use support::somewhere;
use tempfile::TempDir;

const APP: &str = "[daemon.main]\nplatform = exec\ncommand = sleep 1\n";
const HUSH: &str = "hush%(NO) = 'x' ;#";

fn source(layer: LayerKind, path: &Path, text: &str) -> Source {
    Source::new(layer, path.to_owned(), text.to_owned())
}

/// A local layer on disk, which only its owner can read.
struct Local {
    dir: TempDir,
    text: String,
}

impl Local {
    fn new(text: &str) -> Local {
        let local = Local {
            dir: TempDir::new().unwrap(),
            text: text.to_owned(),
        };
        local.file("local.conf", text, 0o600);
        local
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(&self, app: &str) -> Result<(Config, App), Report> {
        let sources = vec![
            source(LayerKind::App, Path::new(".metactl"), app),
            source(
                LayerKind::Local,
                &self.dir.path().join("local.conf"),
                &self.text,
            ),
        ];
        model::load(sources, "myapp")
    }

    /// The report of reading the values.
    fn refused(&self) -> String {
        let (config, mut app) = self.load(APP).unwrap();
        secrets::read(&mut app, &config).unwrap_err().to_string()
    }
}

#[test]
fn a_value_is_taken_as_written_and_never_shown() {
    let local = Local::new(&format!(
        "[secrets]\ndb.password = {HUSH}\ncert = -----BEGIN KEY-----\n    {HUSH}=\n    -----END KEY-----\n\
         [secrets.env]\nDB_PASSWORD = db.password\n"
    ));
    let (config, mut app) = local.load(APP).unwrap();
    let values = secrets::read(&mut app, &config).unwrap();
    let found: Vec<(&str, &str)> = values
        .iter()
        .map(|(name, value)| (name, std::str::from_utf8(value).unwrap()))
        .collect();
    let cert = format!("-----BEGIN KEY-----\n{HUSH}=\n-----END KEY-----");
    assert_eq!(found, [("cert", cert.as_str()), ("db.password", HUSH)]);
    assert_eq!(app.env["DB_PASSWORD"].value, HUSH);

    let shown = render(&config.rows(None), true);
    assert!(
        shown.contains("db.password = ***") && shown.contains("cert = ***"),
        "{shown}"
    );
    let debug = format!("{values:?} {:?}", app.secrets);
    let place = somewhere();
    let host = support::debian();
    let composition = bundle::compose(&app, &config, &place, &host).unwrap();
    let manifest = composition.text("manifest.json").unwrap();
    let config_json = composition.text("main/config.json").unwrap();
    for text in [&shown, &debug, manifest] {
        assert!(!text.contains("hush"), "{text}");
    }
    // In the bundle it is only where it was asked to be: in the environment.
    assert_eq!(config_json.matches("hush").count(), 1);
    for (name, path) in [("cert", "cert"), ("db.password", "db.password")] {
        assert!(config_json.contains(&format!("/run/secrets/{name}")));
        assert!(config_json.contains(place.secrets.join(path).to_str().unwrap()));
    }
    let redacted = composition.redacted();
    let all = format!("{:?}", redacted.items);
    assert!(!all.contains("hush") && all.contains("DB_PASSWORD=***"));
}

#[test]
fn files_are_named_and_their_content_is_read() {
    let local = Local::new("");
    let path = local.file("db", "hush\n", 0o600);
    let text = format!(
        "[secrets]\ndb = file:{}\n[secrets.env]\nDB = db\nDB2 = db\n",
        path.display()
    );
    let local = Local { text, ..local };
    let (config, mut app) = local.load(APP).unwrap();
    let values = secrets::read(&mut app, &config).unwrap();
    assert_eq!(values.iter().collect::<Vec<_>>(), [("db", &b"hush\n"[..])]);
    assert_eq!(
        (app.env["DB"].value.as_str(), app.env["DB2"].value.as_str()),
        ("hush", "hush")
    );
    // The path is no secret.
    assert_eq!(
        config.shown("secrets", "db").unwrap(),
        format!("file:{}", path.display())
    );
}

#[test]
fn what_others_can_read_is_no_secret() {
    let local = Local::new("[secrets]\ndb = hush\n");
    local.file("local.conf", &local.text, 0o640);
    let text = local.refused();
    assert!(
        text.contains("others can read")
            && text.contains("chmod go=")
            && text.contains("local.conf:2:6"),
        "{text}"
    );
    assert!(!text.contains("hush"), "{text}");

    let local = Local::new("");
    for (name, content, mode, words) in [
        ("open", &b"hush"[..], 0o644, "others can read"),
        ("empty", b"", 0o600, "is empty"),
        ("large", &[b'x'; 70_000], 0o600, "larger than 64 KiB"),
        ("binary", b"hush\0\xff", 0o600, "it is no text"),
    ] {
        let path = local.file(name, content, mode);
        let text = format!(
            "[secrets]\ndb = file:{}\n[secrets.env]\nDB = db\n",
            path.display()
        );
        let told = Local {
            text,
            dir: TempDir::new().unwrap(),
        }
        .refused();
        assert!(told.contains(words) && told.contains("help: "), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
    for (path, words) in [
        ("/no/such/file", "cannot read /no/such/file"),
        ("/", "not a regular file"),
    ] {
        let local = Local::new(&format!("[secrets]\ndb = file:{path}\n"));
        let told = local.refused();
        assert!(
            told.contains(words) && told.contains("local.conf:2:6"),
            "{told}"
        );
    }
}

#[test]
fn the_app_layer_can_ask_but_not_say() {
    let local = Local::new("");
    let (config, app) = local
        .load(&format!(
            "{APP}[secrets]\ndb = hush\nkey = file:/root/.ssh/id\n"
        ))
        .unwrap();
    assert!(app.secrets.is_empty());
    let asked: Vec<&str> = config
        .requests()
        .iter()
        .map(|request| request.grant.as_str())
        .collect();
    assert_eq!(
        asked,
        ["[secrets]\ndb = ***", "[secrets]\nkey = file:/root/.ssh/id"]
    );
    // It may say under which name it wants one.
    let wants = format!("{APP}[secrets.env]\nDB_PASSWORD = db\n");
    let text = local.load(&wants).unwrap_err().to_string();
    assert!(
        text.contains("there is no secret `db`") && text.contains("db = file:/PATH"),
        "{text}"
    );
    let local = Local::new("[secrets]\ndb = hush\n");
    let (config, mut app) = local.load(&wants).unwrap();
    secrets::read(&mut app, &config).unwrap();
    assert_eq!(app.env["DB_PASSWORD"].value, "hush");
    // A variable has one value.
    let text = local
        .load(&format!("{wants}[env]\nDB_PASSWORD = x\n"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("is in [env] too"), "{text}");
}

#[test]
fn no_error_shows_a_secret() {
    for (wrong, words) in [
        ("[secrets]\nko/ey = hush1\n", ":2:"),
        ("[secrets]\nkey = hush1\nkey = hush2\n", "stands twice"),
        ("[secrets]\nkey = hush1\nhush2/AA==\n", ":3:"),
        (
            "[secrets]\nkey = BEGIN\nhush1hush1\nhush2\n",
            "line without `=`",
        ),
        ("[secrets]\nkey = hush1\u{1}hush2\n", "control character"),
        ("[secrets]\n  hush1\n", "continues no value"),
        ("[secrets\nkey = hush1\n\u{1}hush2\n", "without ]"),
        ("[secrets] hush1\n", "text after a section header"),
        ("[secrets]\nkey =\n", "must not be empty"),
        (
            "[secrets]\nkey = file:hush\n",
            "file:/etc/metactl/secrets/db",
        ),
        ("[secrets]\nunset key\n", ""),
        ("[secrets.env]\nA = b\n", "there is no secret"),
        ("[secrets]\nkey = hush1\n    [env]\n", ""),
    ] {
        let local = Local::new(wrong);
        let text = match local.load(APP) {
            Err(report) => report.to_string(),
            Ok((config, _)) => {
                assert!(words.is_empty(), "{wrong}");
                config.warnings().iter().map(ToString::to_string).collect()
            }
        };
        assert!(text.contains(words), "no `{words}` in\n{text}");
        // A path that is none is no secret; its first word says that it is meant to be one.
        let text = text.replace("file:hush", "");
        assert!(!text.contains("hush"), "{wrong}\n{text}");
    }
}
