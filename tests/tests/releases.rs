//! The releases of an instance, and the way back to one of them.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::needs::GIT;
use metactl_tests::{Host, eventually, on_host};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);

const CONFIG: &str = "[build]\nwatch = 1ms\n[daemon.app]\nplatform = exec\ncommand = ./app.sh\n";

fn script(version: u32) -> String {
    format!("#!/bin/sh\necho version {version} $WORD\nexec sleep 1000\n")
}

fn says(host: &Host, what: &str) {
    eventually(what, SOON, || {
        let log = fs::read_to_string(host.log("app", "app")).ok()?;
        log.lines().last()?.contains(what).then_some(())
    });
}

fn local(host: &Host) -> String {
    fs::read_to_string(host.root().join("etc/metactl/nodes/app.conf")).unwrap()
}

fn facts(host: &Host, args: &[&str]) -> Value {
    serde_json::from_str(&host.run(args).ok().stdout).unwrap()
}

#[test]
fn back_to_a_release_and_forward_again() {
    on_host(&[GIT], |host| {
        let files = [(".metactl", CONFIG), ("app.sh", &script(1))];
        let repository = host.application("app", &files, "[env]\nWORD = then\n");
        host.run(&["app", "releases"])
            .ok()
            .says(&["metactl app deploy TAG"]);
        host.run(&["app", "rollback"]).fails(69);
        host.run(&["app", "deploy", "1.0"]).ok();
        host.run(&["app", "rollback"])
            .fails(69)
            .says(&["no release before 1.0-"]);
        for version in [2, 3] {
            repository
                .write("app.sh", &script(version))
                .commit(&format!("{version}.0"));
            host.run(&["app", "deploy", &format!("{version}.0")]).ok();
        }
        says(host, "version 3 then");
        let all = facts(host, &["app", "releases", "--json"]);
        let ids: Vec<&str> = all["releases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|release| release["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 3);
        assert!(ids[0].starts_with("3.0-") && ids[2].starts_with("1.0-"));
        assert_eq!(all["inUse"], ids[0]);
        host.run(&["app", "releases"])
            .ok()
            .says(&["in use", &format!("To go back to {}", ids[1])]);

        // Without the repository, with the configuration of now; the tag is recorded as `deploy` does.
        let away = host.work().join("away");
        fs::rename(&repository.dir, &away).unwrap();
        host.run(&["app", "set", "env:WORD=now"]).ok();
        let back = host.run(&["app", "rollback"]).ok();
        back.says(&[
            "app runs 2.0",
            &format!("Undo: metactl app rollback {}", ids[0]),
        ]);
        says(host, "version 2 now");
        assert!(local(host).contains("tag = 2.0"), "{}", local(host));
        assert_eq!(facts(host, &["app", "releases", "--json"])["inUse"], ids[1]);
        host.run(&["app", "status"]).ok().says(&["· 2.0 ("]);
        host.run(&["app", "rollback", "1.0"]).ok();
        says(host, "version 1 now");
        host.run(&["app", "rollback", ids[0]]).ok();
        says(host, "version 3 now");
        host.run(&["app", "rollback", ids[0]])
            .fails(69)
            .says(&["in use already", "metactl app restart"]);
        host.run(&["app", "rollback", "4.0"])
            .fails(69)
            .says(&["no release 4.0", "metactl app releases"]);
        host.run(&["app", "stop"]).ok();
        // What is stopped runs then.
        host.run(&["app", "rollback"]).ok();
        says(host, "version 2 now");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_release_that_does_not_come_up_any_more_is_no_way_back() {
    on_host(&[GIT], |host| {
        let picky =
            "#!/bin/sh\n[ -e /data/ok ] || { echo 'data is too new'; exit 5; }\nexec sleep 1000\n";
        let files = [(".metactl", CONFIG), ("app.sh", picky)];
        let repository = host.application("app", &files, "");
        let data = host.state("app").join("data");
        host.run(&["app", "deploy", "1.0"]).fails(1);
        host.run(&["app", "releases"]).ok();
        // It was good once.
        repository
            .write("app.sh", "#!/bin/sh\ntouch /data/ok\nexec sleep 1000\n")
            .commit("0.9");
        host.run(&["app", "deploy", "0.9"]).ok();
        eventually("its data", SOON, || data.join("ok").exists().then_some(()));
        host.run(&["app", "deploy", "1.0"]).ok();
        repository.write("app.sh", &script(2)).commit("2.0");
        host.run(&["app", "deploy", "2.0"]).ok();
        fs::remove_file(data.join("ok")).unwrap();
        let before = local(host);
        host.run(&["app", "rollback"])
            .fails(10)
            .says(&["data is too new", "2.0"]);
        says(host, "version 2");
        host.run(&["app", "status"])
            .ok()
            .says(&["· 2.0 (", "running"]);
        assert_eq!(local(host), before);
        // What the configuration of now does not allow is refused before anything stops.
        host.local_layer("app", &format!("{before}\n[daemon.app]\nnonsense = 1\n"));
        host.run(&["app", "rollback"]).fails(78).says(&["nonsense"]);
        host.local_layer("app", &before);
        host.run(&["app", "status"]).ok();
        host.run(&["app", "stop"]).ok();
    });
}
