use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};

use super::*;

fn entry(name: &str, kind: EntryKind) -> EntryRef {
    EntryRef {
        name: name.to_owned(),
        title: name.trim_start_matches("cron.").replace('-', " "),
        kind,
        platform: "exec".to_owned(),
        dir: name.replace("cron.", "cron/").into(),
        tmp: "/tmp".into(),
        schedule: None,
        port: None,
        health: Default::default(),
        stop_signal: 15,
        stop_timeout: Duration::from_secs(30),
        restart: Restart::Always,
        after: Vec::new(),
        requires: Vec::new(),
        restart_limit: None,
        checks: Vec::new(),
        notify_socket: None,
        service: Default::default(),
    }
}

fn manifest(instance: &str, entries: Vec<EntryRef>) -> Manifest {
    Manifest {
        format: 1,
        version: "0".to_owned(),
        instance: instance.to_owned(),
        app: "shop 100%".to_owned(),
        release: "1.2-abc-3".to_owned(),
        release_path: "/r".into(),
        site: None,
        uid: 66000,
        gid: 66000,
        hostname: instance.to_owned(),
        digest: None,
        entries,
        notify: Default::default(),
        cron: Default::default(),
        dns: None,
        secrets: None,
        systemd: Default::default(),
        smf: Default::default(),
        plain: false,
        layers: Vec::new(),
        settings: Vec::new(),
    }
}

fn rendered(root: &str, manifest: &Manifest, mode: Mode) -> Vec<Unit> {
    rendered_for(252, root, manifest, mode)
}

fn rendered_for(version: u32, root: &str, manifest: &Manifest, mode: Mode) -> Vec<Unit> {
    let limits = Limits {
        memory: Some(1 << 20),
        tasks: Some(20),
        cpu_millis: Some(1505),
    };
    units(&Input {
        paths: &Paths::under(Path::new(root)),
        metactl: Path::new("/usr/bin/metactl"),
        runtime: Path::new("/usr/bin/metactl-runtime"),
        bundle: Path::new("/var/lib/metactl/shop/bundles/d1"),
        digest: "d1",
        manifest,
        mode,
        limits,
        own_limits: vec![limits, Limits::default()],
        uplink: Some("eth0,eth1"),
        nameservers: &["10.0.0.53".parse().unwrap()],
        version: Some(version),
    })
}

fn text<'a>(units: &'a [Unit], name: &str) -> &'a str {
    let unit = units.iter().find(|unit| unit.name == name);
    &unit.unwrap_or_else(|| panic!("no {name}")).text
}

const HEAD: &str = "# Written by metactl, which replaces it as a whole. Your own settings belong into drop-ins: systemctl edit.\n[X-Metactl]\nInstance=shop\n";

#[test]
fn a_daemon_is_a_service_whose_main_process_is_the_application() {
    let mut jobs = entry("jobs", EntryKind::Daemon);
    jobs.after = vec!["web".to_owned()];
    jobs.stop_signal = 2;
    jobs.stop_timeout = Duration::from_millis(1500);
    let all = rendered("/", &manifest("shop", vec![jobs]), Mode::Nat);
    let expected = "\
Entry=jobs
Kind=daemon
Bundle=d1

[Unit]
Description=shop jobs (1.2-abc-3)
PartOf=metactl-shop.target
Requires=metactl-net@shop.service
After=metactl-net@shop.service metactl-resolver.service metactl-shop-web.service
StartLimitIntervalSec=3600s
StartLimitBurst=300

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/metactl-runtime --root /run/metactl/oci --cgroup-manager unit run --detach --bundle /var/lib/metactl/shop/bundles/d1/jobs --netns /run/metactl/shop/netns shop.jobs
Environment=METACTL_RUNTIME=/usr/bin/metactl-runtime
ExecStopPost=/usr/bin/metactl -a shop unit ended jobs
Restart=always
RestartSec=2s
SuccessExitStatus=143
KillMode=mixed
KillSignal=2
TimeoutStartSec=90s
TimeoutStopSec=1500ms
Slice=metactl-shop.slice
MemoryMax=1048576
TasksMax=20
CPUQuota=150.5%
OOMPolicy=continue
StandardOutput=journal
StandardError=journal
SyslogIdentifier=shop-jobs
";
    assert_eq!(
        text(&all, "metactl-shop-jobs.service"),
        format!("{HEAD}{expected}")
    );
}

#[test]
fn an_instance_is_a_target_a_slice_and_a_network() {
    let mut job = entry("cron.every-day", EntryKind::Cron);
    job.schedule = Some("0 0 1 * 1".to_owned());
    let entries = vec![entry("web", EntryKind::Daemon), job];
    let all = rendered("/", &manifest("shop", entries), Mode::Routed);
    assert_eq!(
        text(&all, "metactl-shop.target"),
        format!(
            "{HEAD}Bundle=d1\n\n[Unit]\nDescription=shop: application shop 100%%\nWants=metactl-shop-web.service metactl-shop-cron.every-day.timer\n\n[Install]\nWantedBy=multi-user.target\n"
        )
    );
    let slice = text(&all, "metactl-shop.slice");
    assert!(slice.ends_with("[Slice]\nMemoryMax=1048576\nTasksMax=20\nCPUQuota=150.5%\n"));
    let network = text(&all, "metactl-net@shop.service");
    assert!(network.contains("\nExecStart=/usr/bin/metactl -a shop unit network-up d1 --uplink=eth0,eth1\nExecStop=/usr/bin/metactl -a shop unit network-down\n"), "{network}");
    assert!(
        network.contains(
            "\nWants=network-online.target metactl-resolver.service metactl-mend.timer\n"
        )
    );
    for often in [network, text(&all, "metactl-shop-cron.every-day.timer")] {
        assert!(often.contains("\nStartLimitIntervalSec=0\n"), "{often}");
    }
    let timer = text(&all, "metactl-shop-cron.every-day.timer");
    assert!(
        timer.ends_with(
            "[Timer]\nOnCalendar=*-*-01 00:00:00\nOnCalendar=Mon *-*-* 00:00:00\nAccuracySec=1s\n"
        ),
        "{timer}"
    );
    let job = text(&all, "metactl-shop-cron.every-day.service");
    assert!(job.contains("\nRestart=no\n") && job.contains("\nStartLimitIntervalSec=0\n"));
    assert!(!job.contains("MemoryMax"), "it has no limit of its own");
    let resolver = text(&all, "metactl-resolver.service");
    assert!(resolver.contains("\nExecStart=/usr/bin/metactl-runtime resolve --server-dir /run/metactl/server --nameserver 10.0.0.53\n"));
}

#[test]
fn without_a_network_of_its_own_nothing_waits_for_one() {
    let all = rendered(
        "/",
        &manifest("shop", vec![entry("web", EntryKind::Daemon)]),
        Mode::Host,
    );
    let names: Vec<&str> = all.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "metactl-shop.target",
            "metactl-shop.slice",
            "metactl-shop-web.service"
        ]
    );
    let web = text(&all, "metactl-shop-web.service");
    assert!(!web.contains("--netns") && !web.contains("Requires=") && !web.contains("After="));
}

#[test]
fn who_may_end_is_not_stopped_when_it_did() {
    let mut once = entry("once", EntryKind::Daemon);
    once.restart = Restart::Never;
    let mut sometimes = entry("sometimes", EntryKind::Daemon);
    sometimes.restart = Restart::OnFailure;
    let all = rendered("/", &manifest("shop", vec![once, sometimes]), Mode::None);
    let once = text(&all, "metactl-shop-once.service");
    assert!(
        once.contains("\nRestart=no\nRemainAfterExit=yes\n"),
        "{once}"
    );
    let sometimes = text(&all, "metactl-shop-sometimes.service");
    assert!(sometimes.contains("\nRestart=on-failure\nRemainAfterExit=yes\nRestartSec=2s\n"));
}

#[test]
fn pauses_and_limits_are_those_of_the_supervisor_as_far_as_systemd_has_them() {
    let mut web = entry("web", EntryKind::Daemon);
    web.restart_limit = Some(2);
    let manifest = manifest("shop", vec![web, entry("free", EntryKind::Daemon)]);
    let has = |all: &[Unit], unit: &str, lines: &str| {
        let text = text(all, unit);
        assert!(text.contains(lines), "{lines} in {text}");
    };
    let old = rendered_for(253, "/", &manifest, Mode::None);
    let web = "metactl-shop-web.service";
    // Three runs of less than 10 s, and pauses of 2 s.
    has(
        &old,
        web,
        "\nStartLimitIntervalSec=36s\nStartLimitBurst=3\n",
    );
    has(&old, web, "\nRestart=always\nRestartSec=2s\nSuccess");
    let new = rendered_for(254, "/", &manifest, Mode::None);
    has(
        &new,
        web,
        "\nStartLimitIntervalSec=31274ms\nStartLimitBurst=3\n",
    );
    has(
        &new,
        web,
        "\nRestartSec=200ms\nRestartSteps=8\nRestartMaxDelaySec=30s\n",
    );
    has(&new, "metactl-shop-free.service", "\nStartLimitBurst=300\n");
}

#[test]
fn words_with_a_meaning_to_systemd_are_quoted() {
    assert_eq!(quoted("/a b/$x%y\"z\\", true), r#""/a b/$$x%%y\"z\\""#);
    assert_eq!(quoted("A=/b", false), "A=/b");
    assert_eq!(escaped("one\ntwo[Service]%n"), "onetwo[Service]%%n");
    let all = rendered(
        "/my root",
        &manifest("shop", vec![entry("web", EntryKind::Daemon)]),
        Mode::Nat,
    );
    let web = text(&all, "metactl-shop-web.service");
    assert!(web.contains("--root \"/my root/run/metactl/oci\""), "{web}");
    assert!(
        web.contains("\nEnvironment=\"METACTL_STATE_DIR=/my root/var/lib/metactl\"\n"),
        "{web}"
    );
}

#[test]
fn a_name_with_a_dash_does_not_share_the_limits_of_another() {
    let all = rendered(
        "/",
        &manifest("my-shop", vec![entry("web", EntryKind::Daemon)]),
        Mode::Nat,
    );
    text(&all, "metactl-my\\x2dshop.slice");
    let web = text(&all, "metactl-my-shop-web.service");
    assert!(web.contains("\nSlice=metactl-my\\x2dshop.slice\n"), "{web}");
}

#[test]
fn what_a_daemon_and_systemd_do_for_each_other() {
    let mut web = entry("web", EntryKind::Daemon);
    web.requires = vec!["db".to_owned()];
    web.service.notify = true;
    web.service.watchdog_ms = Some(10_000);
    web.service.sockets = vec!["80".to_owned(), "[::1]:81".to_owned()];
    let mut manifest = manifest("shop", vec![web]);
    let settings = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    manifest
        .systemd
        .insert("service".to_owned(), settings("LimitCORE", "infinity"));
    manifest
        .systemd
        .insert("unit".to_owned(), settings("Before", "nginx.service"));
    let all = rendered("/", &manifest, Mode::Nat);
    let web = text(&all, "metactl-shop-web.service");
    for line in [
        "Requires=metactl-net@shop.service metactl-shop-web.socket metactl-shop-db.service",
        "NotifyAccess=all",
        "WatchdogSec=10s",
    ] {
        assert!(web.lines().any(|other| other == line), "{line} in {web}");
    }
    assert!(
        web.contains(" --netns /run/metactl/shop/netns --notify shop.web\n"),
        "{web}"
    );
    assert!(
        web.contains("\nBefore=nginx.service\n\n[Service]\n"),
        "{web}"
    );
    assert!(web.ends_with("\nLimitCORE=infinity\n"), "{web}");
    let socket = text(&all, "metactl-shop-web.socket");
    assert!(socket.ends_with("[Socket]\nListenStream=80\nListenStream=[::1]:81\nNetworkNamespacePath=/run/metactl/shop/netns\n"), "{socket}");
}

#[test]
fn networks_and_names_are_looked_after_by_a_timer_of_the_server() {
    let web = || vec![entry("web", EntryKind::Daemon)];
    let all = rendered("/my root", &manifest("shop", web()), Mode::Routed);
    let service = text(&all, "metactl-mend.service");
    assert!(service.contains("\n[X-Metactl]\nServer=yes\n"), "{service}");
    assert!(!service.contains("shop"), "it is of no instance: {service}");
    for line in [
        "Type=oneshot",
        "ExecStart=/usr/bin/metactl mend --new",
        "Environment=\"METACTL_RUN_DIR=/my root/run/metactl\"",
        "SuccessExitStatus=2",
        "TimeoutStartSec=300s",
    ] {
        assert!(service.lines().any(|other| other == line), "{line}");
    }
    // It does not stay, and nothing starts it but the timer and who asks.
    assert!(!service.contains("RemainAfterExit") && !service.contains("Install"));
    let timer = text(&all, "metactl-mend.timer");
    assert!(
        timer.ends_with("[Timer]\nOnActiveSec=5s\nOnUnitInactiveSec=30s\nAccuracySec=5s\n"),
        "{timer}"
    );
    for mode in [Mode::None, Mode::Host] {
        let all = rendered("/", &manifest("shop", web()), mode);
        assert!(all.iter().all(|unit| !unit.name.contains("mend")));
    }
}
