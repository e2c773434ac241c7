use std::collections::BTreeMap;

use super::*;
use crate::service::sample;
use crate::standalone::entry::tests::definition;

fn manifest(entries: Vec<EntryRef>) -> Manifest {
    sample::manifest("shop", "shop 100% \"#\" 'x'\nend script", entries)
}

fn rendered(
    root: &str,
    manifest: &Manifest,
    mode: Mode,
    plain: Option<(&Account, Vec<Plain>)>,
) -> Result<BTreeMap<String, Job>, Unwritable> {
    let input = Input {
        paths: &Paths::under(Path::new(root)),
        metactl: Path::new("/usr/bin/metactl"),
        runtime: Path::new("/usr/bin/metactl-runtime"),
        link: Path::new("/var/lib/metactl/shop/upstart"),
        manifest,
        mode,
        nameservers: &["10.0.0.53".parse().unwrap()],
        plain,
    };
    let jobs = jobs(&input)?.into_iter();
    Ok(jobs.map(|job| (job.name.clone(), job)).collect())
}

fn daemon(name: &str, restart: Restart) -> EntryRef {
    definition(name, restart)
}

fn cron(name: &str) -> EntryRef {
    EntryRef {
        kind: EntryKind::Cron,
        dir: "cron/nightly".into(),
        ..definition(name, Restart::Never)
    }
}

const HEAD: &str = "# Written by metactl, which replaces it as a whole. Your own stanzas belong into a file .override beside it.\n# metactl-instance: shop\n";
const STEP: &str = "/usr/bin/env METACTL_SERVICE_MANAGER=upstart METACTL_RUNTIME=/usr/bin/metactl-runtime /usr/bin/metactl -a shop unit";

#[test]
fn an_instance_in_sandboxes() {
    let web = EntryRef {
        after: vec!["cache".to_owned()],
        requires: vec!["db".to_owned()],
        stop_signal: 3,
        stop_timeout: Duration::from_millis(1500),
        ..daemon("web", Restart::OnFailure)
    };
    let entries = vec![daemon("db", Restart::Always), web, cron("cron.nightly")];
    let jobs = rendered("/", &manifest(entries), Mode::Nat, None).unwrap();
    let names: Vec<&str> = jobs.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "metactl-resolver",
            "metactl-shop-cron.nightly",
            "metactl-shop-db",
            "metactl-shop-web",
            "metactl@shop"
        ]
    );
    assert!(jobs.values().all(|job| !job.private));
    assert_eq!(
        jobs["metactl@shop"].text,
        format!(
            "{HEAD}\ndescription 'shop: application shop 100% \"#\" '\"'\"'x'\"'\"'end script'\nauthor metactl\n\
             start on runlevel [2345]\nstop on runlevel [!2345]\nenv BOOT=yes\nexport BOOT\nconsole log\n\
             pre-start exec {STEP} prepare\npost-start exec {STEP} booted\npost-stop exec {STEP} network-down\n"
        )
    );
    let launch = |dir: &str, entry: &str| {
        format!(
            "exec /usr/bin/metactl-runtime --root /run/metactl/oci run --keep --exit-file \
             /run/metactl/shop/exits/{entry} --netns /run/metactl/shop/netns --bundle \
             \"$(readlink -f /var/lib/metactl/shop/upstart)\"/{dir} shop.{entry}\n"
        )
    };
    assert_eq!(
        jobs["metactl-shop-web"].text,
        format!(
            "{HEAD}# metactl-entry: web\n# metactl-kind: daemon\n\ndescription 'shop web'\nauthor metactl\n\
             start on started metactl@shop BOOT=yes and started metactl-shop-cache and started metactl-shop-db\n\
             stop on stopping metactl@shop or stopped metactl-shop-db\n\
             respawn\nrespawn limit 300 3600\nnormal exit 0 143 TERM\nkill signal QUIT\nkill timeout 2\nconsole log\n\
             pre-start exec {STEP} prepare web\npost-stop exec {STEP} stopped web\n{}",
            launch("web", "web")
        )
    );
    let db = &jobs["metactl-shop-db"].text;
    assert!(
        !db.contains("normal exit") && !db.contains("kill signal"),
        "{db}"
    );
    assert_eq!(
        jobs["metactl-shop-cron.nightly"].text,
        format!(
            "{HEAD}# metactl-entry: cron.nightly\n# metactl-kind: cron\n\ndescription 'shop cron.nightly'\n\
             author metactl\nstop on stopping metactl@shop\ntask\nkill timeout 10\nconsole log\n\
             pre-start exec {STEP} prepare cron.nightly\npost-stop exec {STEP} stopped cron.nightly\n{}",
            launch("cron/nightly", "cron.nightly")
        )
    );
    let resolver = &jobs["metactl-resolver"].text;
    assert!(
        resolver.contains("exec /usr/bin/metactl-runtime resolve --server-dir /run/metactl/server --nameserver 10.0.0.53\n"),
        "{resolver}"
    );
}

#[test]
fn networks_restarts_and_directories() {
    let mut limited = daemon("web", Restart::Always);
    limited.restart_limit = Some(5);
    let once = daemon("once", Restart::Never);
    let jobs = rendered("/x y", &manifest(vec![limited, once]), Mode::Host, None).unwrap();
    assert!(!jobs.contains_key("metactl-resolver"));
    let web = &jobs["metactl-shop-web"].text;
    for part in [
        "respawn limit 5 60\n",
        "METACTL_SERVICE_MANAGER=upstart ",
        "'METACTL_RUN_DIR=/x y/run/metactl'",
        "--exit-file '/x y/run/metactl/shop/exits/web'",
    ] {
        assert!(web.contains(part), "no {part} in\n{web}");
    }
    assert!(!web.contains("--netns"), "{web}");
    let once = &jobs["metactl-shop-once"].text;
    assert!(
        !once.contains("respawn") && once.contains("normal exit 0 143 TERM\n"),
        "{once}"
    );
}

#[test]
fn plain_commands_with_hostile_values() {
    let account = Account {
        user: "shop".to_owned(),
        group: "web".to_owned(),
    };
    let hostile = Plain {
        args: ["/usr/bin/x", "it's", "a\\b", "# no comment", "$(id)"]
            .map(str::to_owned)
            .into(),
        env: vec!["A=it's \\ \"q\" # x".to_owned(), "B=".to_owned()],
        dir: "/srv/a b".into(),
        files: Some(4096),
        umask: None,
    };
    let manifest = manifest(vec![daemon("web", Restart::Always)]);
    let jobs = rendered(
        "/",
        &manifest,
        Mode::Host,
        Some((&account, vec![hostile.clone()])),
    )
    .unwrap();
    let names: Vec<&str> = jobs.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["metactl-shop-web", "metactl-watch@shop", "metactl@shop"]
    );
    let web = &jobs["metactl-shop-web"];
    assert!(web.private, "it holds the environment");
    assert!(
        web.text.ends_with(
            "respawn\nrespawn limit 30 60\nkill timeout 10\nconsole log\nsetuid shop\nsetgid web\numask 0022\n\
             limit nofile 4096 4096\nchdir '/srv/a b'\nenv 'A=it'\"'\"'s \\\\ \"q\" # x'\nenv B=\n\
             exec /usr/bin/x 'it'\\''s' 'a'\\\\'b' '# no comment' '$(id)'\n"
        ),
        "{}",
        web.text
    );
    // What runs as the account has no step of metactl in it, which would run as the account too.
    assert!(!web.text.contains("unit"), "{}", web.text);
    assert_eq!(
        jobs["metactl-watch@shop"].text,
        format!(
            "{HEAD}\ndescription 'shop: what has ended'\nauthor metactl\nstart on stopped JOB='metactl-shop-*'\n\
             instance $JOB\ntask\nconsole log\nexec {STEP} event\n"
        )
    );
    assert!(!jobs["metactl@shop"].text.contains("prepare"));

    let mut broken = hostile;
    broken.env = vec!["A=x\nexec rm -rf /".to_owned()];
    let error = rendered("/", &manifest, Mode::Host, Some((&account, vec![broken]))).unwrap_err();
    assert_eq!(error.entry, "web");
}
