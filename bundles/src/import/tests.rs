//! What becomes of configurations as people have them.

use std::path::PathBuf;

use super::*;
use crate::layers::{LayerKind, Source};
use crate::model;

const JVMCTL: &str = r#"# myapp on this server
export PORT=8203
HEAP_SIZE=512m
REPO=https://git.example.org/myapp.git https://git.example.org/more.git
GIT_BRANCH="release/1.2"
USER=webapps   # as always
JAVA_HOME=/usr/lib/jvm/java-17
JAVA_OPTS="-Dmyapp.port=$PORT -Dtitle='My application' -Dnode=${NODE}"
GC_LOG_OPTS=(
  -Xlog:gc       # all of it
  "-Dwith space=1"
)
DB_HOST=db.example.org
DB_URL="jdbc:mysql://me:hush@${DB_HOST}/myapp"
STAMP=$(date > /tmp/metactl-import-ran)
OTHER=`touch /tmp/metactl-import-ran`
touch /tmp/metactl-import-ran
source /etc/default/x
ROOT_URL_PREFIX=/shop
JETTY_VERSION=9.4.50.v20221201
OOM_EMAIL=ops@example.org
DB_PASSWORD=$MISSING
PERCENT=100%(x)

[systemd.service.Service]
LimitNOFILE=8192
MemoryMax=2G
ExecStartPre=/bin/rm -rf /

[systemd.service.Unit]
After=mysql.service
"#;

fn assert_valid(name: &str, imported: &Imported) {
    let source = |layer, text: String| Source::new(layer, PathBuf::from("x"), text);
    let sources = vec![
        source(LayerKind::App, imported.app.text()),
        source(LayerKind::Local, imported.local.text()),
    ];
    let (config, app) = model::load(sources, name).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(app.daemons.len(), 1);
    assert!(config.requests().is_empty(), "{:?}", config.requests());
}

fn left(imported: &Imported) -> Vec<(usize, &str)> {
    let lines = imported.left.iter();
    lines
        .map(|left| (left.line, left.what.split('=').next().unwrap_or("")))
        .collect()
}

#[test]
fn a_file_of_jvmctl_becomes_two_layers() {
    let imported = jvmctl::import("myapp", JVMCTL);
    assert_eq!(
        imported.app.text(),
        "[daemon.webapp]\nplatform = jetty9\njvm.heap.max = 512m\n\
         jvm.options = -Xlog:gc '-Dwith space=1' -Dmyapp.port=8203 -Dtitle='My application' -Dnode=myapp\n\
         jetty.context = /shop\n"
    );
    assert_eq!(
        imported.local.text(),
        "[env]\nDB_HOST = db.example.org\nDB_URL = jdbc:mysql://me:hush@%(DB_HOST)/myapp\n\
         PERCENT = 100%%(x)\n\n\
         [build]\nrepo = https://git.example.org/myapp.git\ntag = release/1.2\n\n\
         [daemon.webapp]\nport = 8203\njvm.home = /usr/lib/jvm/java-17\n\n\
         [sandbox]\nuser = webapps\n\n\
         [sandbox.limits]\nfiles = 8192\nmemory = 2g\n"
    );
    assert_eq!(
        left(&imported),
        [
            (4, "REPO"),
            (15, "STAMP"),
            (16, "OTHER"),
            (17, "touch /tmp/metactl-import-ran"),
            (18, "source /etc/default/x"),
            (21, "OOM_EMAIL"),
            (22, "DB_PASSWORD"),
            (28, "ExecStartPre"),
            (31, "After"),
        ]
    );
    let all: String = imported
        .left
        .iter()
        .map(|left| format!("{left:?}\n"))
        .collect();
    assert!(!all.contains("hush"), "{all}");
    assert!(!std::path::Path::new("/tmp/metactl-import-ran").exists());
    assert_valid("myapp", &imported);
}

#[test]
fn a_program_without_a_container_keeps_its_jar_or_class() {
    for (options, expected) in [
        (
            "-jar lib/jobs.jar 9000 'a b'",
            "jvm.jar = lib/jobs.jar 9000 'a b'\n",
        ),
        (
            "-cp lib/* org.example.Main x",
            "jvm.classpath = lib/*\njvm.main = org.example.Main x\n",
        ),
        ("-Dx=1 -jar a.jar", "jvm.options = -Dx=1\njvm.jar = a.jar\n"),
    ] {
        let imported = jvmctl::import("jobs", &format!("CONTAINER=none\nAPP_OPTS=\"{options}\"\n"));
        assert_eq!(
            imported.app.text(),
            format!("[daemon.webapp]\nplatform = jvm\n{expected}")
        );
        assert_eq!(imported.local.text(), "[sandbox]\nuser = webapp\n");
        assert!(imported.left.is_empty(), "{:?}", imported.left);
        assert_valid("jobs", &imported);
    }
    let nothing = jvmctl::import("jobs", "CONTAINER=none\nAPP_OPTS=-Dx=1\n");
    assert_eq!(left(&nothing), [(2, "APP_OPTS")]);
}

#[test]
fn a_unit_becomes_a_starting_point() {
    let unit = "[Unit]\nDescription=Jobs\nRequires=mysql.service\n\n[Service]\nType=simple\nUser=jobs\n\
                Environment=\"TITLE=My jobs\" PORT=9000\nExecStart=/usr/bin/python3 -m jobs \\\n  --title 'My jobs'\n\
                WorkingDirectory=/srv/jobs\nMemoryMax=1G\nTasksMax=200\nCPUQuota=150%\nRestart=on-failure\n\
                TimeoutStopSec=20\nKillSignal=SIGINT\nPrivateTmp=true\nExecStartPre=+/bin/chown x /srv\n\
                [Install]\nWantedBy=multi-user.target\n";
    let imported = systemd::import(unit);
    assert_eq!(
        imported.app.text(),
        "[daemon.main]\nplatform = exec\ncommand = /usr/bin/python3 -m jobs --title 'My jobs'\n\
         restart = on-failure\nstop.timeout = 20s\nstop.signal = SIGINT\n"
    );
    assert_eq!(
        imported.local.text(),
        "[env]\nTITLE = My jobs\nPORT = 9000\n\n[sandbox]\nuser = jobs\n\n\
         [sandbox.limits]\nmemory = 1g\npids = 200\ncpu = 1.5\n"
    );
    assert_eq!(
        left(&imported),
        [
            (3, "Requires"),
            (11, "WorkingDirectory"),
            (19, "ExecStartPre")
        ]
    );
    assert_valid("jobs", &imported);
}

#[test]
fn no_text_makes_it_panic() {
    for text in [
        "",
        "=",
        "A",
        "A=(",
        "A='",
        "A=\\",
        "[",
        "[x",
        "[jvm]\nPORT=x",
        "PORT=99999",
        "JAVA_OPTS='",
        "A=${",
        "A=$",
        "A=${}",
        "ExecStart=",
        "[Service]\nExecStart=\\\nExecStart='",
        "[Service]\nCPUQuota=%",
        "[Service]\nMemoryMax=99999999999999999999",
        "A=(1\n2)\u{0}",
    ] {
        for imported in [jvmctl::import("x", text), systemd::import(text)] {
            let layers = imported.app.text() + &imported.local.text();
            assert!(!layers.contains('\0'), "{layers}");
        }
    }
}
