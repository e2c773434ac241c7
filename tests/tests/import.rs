//! `metactl import`, as somebody with a directory of old configurations uses it.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use metactl_tests::needs::GIT;
use metactl_tests::on_host;
use metactl_tests::tree::Tree;

#[test]
fn a_directory_of_jvmctl_is_shown_and_then_written() {
    on_host(&[GIT], |host| {
        let dir = host.work().join("apps");
        let ran = host.work().join("ran");
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join("shop.conf"),
            format!(
                "PORT=8080\nHEAP_SIZE=256m\nUSER=shop\nDB_PASSWORD=hush\nSTAMP=$(touch {0})\ntouch {0}\n",
                ran.display()
            ),
        )
        .unwrap();
        fs::write(dir.join("deploy.conf"), "PORT=8081\n").unwrap();
        let path = dir.to_str().unwrap();

        let config = host.root().join("etc/metactl");
        fs::create_dir_all(&config).unwrap();
        let before = Tree::of(&config);
        host.run(&["import", "jvmctl", path, "--dry-run"])
            .fails(2)
            .says(&[
                "shop",
                "jetty9",
                "8080",
                "shop.conf:5: STAMP",
                "shop.conf:6: touch",
                "it is a command",
                "nothing was written",
            ])
            .never_says(&["hush"]);
        before.assert_same(&Tree::of(&config));

        host.run(&["import", "jvmctl", path])
            .fails(2)
            .says(&["nodes/shop.conf", "Undo: ", "rm "])
            .never_says(&["hush"]);
        assert!(!ran.exists(), "nothing of it is run");
        let show = host
            .run(&["shop", "show"])
            .ok()
            .says(&["port = 8080", "user = shop"]);
        assert!(!show.stdout.contains("hush"), "{show}");
        assert!(
            fs::read_to_string(config.join("imported/shop.metactl"))
                .unwrap()
                .contains("jvm.heap.max = 256m")
        );
        // Nothing is overwritten.
        let before = Tree::of(&config);
        host.run(&["import", "jvmctl", path])
            .fails(2)
            .says(&["is there already"]);
        before.assert_same(&Tree::of(&config));
        let json = host.run(&["import", "jvmctl", path, "--dry-run", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["imports"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn a_unit_of_systemd_is_a_starting_point() {
    on_host(&[GIT], |host| {
        let unit = host.work().join("jobs.service");
        fs::create_dir_all(host.work()).unwrap();
        fs::write(
            &unit,
            "[Service]\nExecStart=/usr/bin/sleep 1000\nMemoryMax=64M\nExecStartPre=/bin/false\n",
        )
        .unwrap();
        host.run(&["import", "systemd", unit.to_str().unwrap()])
            .ok()
            .says(&["jobs", "exec", "jobs.service:4: ExecStartPre"]);
        // With its app layer in a repository, it runs.
        let app =
            fs::read_to_string(host.root().join("etc/metactl/imported/jobs.metactl")).unwrap();
        let local = fs::read_to_string(host.root().join("etc/metactl/nodes/jobs.conf")).unwrap();
        host.application("jobs", &[(".metactl", &app)], &local);
        host.run(&["jobs", "deploy", "1.0"]).ok();
        host.run(&["jobs", "show", "sandbox.limits:memory"])
            .ok()
            .says(&["64m"]);
        host.run(&["jobs", "stop"]).ok();
    });
}
