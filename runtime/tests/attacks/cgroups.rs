//! A container that may write to its own control groups, and makes of them what nobody can kill or remove.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{self, Host, enter, eventually, processes, put, reap};
use crate::{add_mount, root_config};

/// A root without capabilities that says when it is ready, and sees its control groups.
fn config(host: &Host, id: &str, script: &str) -> Value {
    let ready = host.path("ready");
    fs::create_dir_all(&ready).unwrap();
    let mut config = root_config(host, id, &format!("{script}; : > /ready/yes; wait"), "");
    add_mount(
        &mut config,
        json!({"destination": "/ready", "source": ready, "options": ["bind"]}),
    );
    add_mount(
        &mut config,
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}),
    );
    config
}

/// Creates and starts it: then it is in every hierarchy.
fn start(host: &Host, id: &str, config: &Value) {
    let bundle = host.bundle(id, config);
    let said = fs::File::create(host.path("said")).unwrap();
    let mut create = host.runtime(&["create", "--bundle", bundle.to_str().unwrap(), id]);
    create.stdout(said.try_clone().unwrap()).stderr(said);
    let done = create.status().unwrap().success();
    assert!(done, "{}", fs::read_to_string(host.path("said")).unwrap());
    host.must(&["start", id]);
    let begun = Instant::now();
    while !host.path("ready/yes").exists() {
        let said = fs::read_to_string(host.path("said")).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "{said}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// It has to be gone soon, and all of it.
fn delete(host: &Host, id: &str) {
    let begun = Instant::now();
    host.must(&["delete", "--force", id]);
    assert!(begun.elapsed() < Duration::from_secs(8), "too slow");
    eventually("all have ended", || {
        reap();
        processes().is_empty()
    });
    host.assert_clean();
}

/// Only the v2 tree, as on a host that has no other.
fn on_v2() -> Option<Host> {
    let host = enter()?;
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.join("cgroup.procs").exists() {
        rustix::mount::mount_bind(unified, "/sys/fs/cgroup").unwrap();
    } else if !Path::new("/sys/fs/cgroup/cgroup.procs").exists() {
        common::skip("needs a cgroup2 mount");
        return None;
    }
    Some(host)
}

/// Goes down into cgroups that it makes, until no path leads there any more.
const DEEP: &str = r"
    #include <stdio.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
        char name[201] = {0};
        memset(name, 'x', 200);
        if (chdir(argv[1])) { perror(argv[1]); return 1; }
        for (int i = 0; i < 40; i++)
            if (mkdir(name, 0755) || chdir(name)) { perror(name); return 1; }
        return 0;
    }
";

/// Cgroups in cgroups, 8 kB of path, in each of `places`: what no path leads to has to go as well.
fn deep(host: &Host, places: &str, resources: Value) {
    if common::compile_c(host, "deep", DEEP).is_none() {
        return;
    }
    let script =
        format!("for dir in {places}; do [ -L $dir ] || deep $dir || exit 1; done; sleep 1000 & :");
    let mut config = config(host, "deep", &script);
    config["linux"]["resources"] = resources;
    start(host, "deep", &config);
    let pids: Vec<i32> =
        serde_json::from_str(&host.must(&["ps", "--format", "json", "deep"])).unwrap();
    assert!(pids.len() >= 2, "{pids:?}");
    delete(host, "deep");
}

#[test]
fn cgroups_that_no_path_leads_to_are_removed() {
    let Some(host) = enter() else { return };
    if !Path::new("/sys/fs/cgroup/pids").exists() {
        return common::skip("there is no cgroup v1 here");
    }
    deep(&host, "/sys/fs/cgroup/*", json!({"pids": {"limit": 64}}));
}

#[test]
fn cgroups_of_v2_that_no_path_leads_to_are_removed() {
    let Some(host) = on_v2() else { return };
    deep(&host, "/sys/fs/cgroup", json!({}));
}

/// A threaded cgroup does not tell its processes (EOPNOTSUPP): they are there all the same.
#[test]
fn threaded_cgroups_hide_nobody() {
    let Some(host) = on_v2() else { return };
    let script = "cd /sys/fs/cgroup && mkdir part && echo threaded > part/cgroup.type || exit 1
        sh -c 'trap \"echo got >> /ready/got\" USR1; while :; do sleep 0.05; done' &
        echo $! > part/cgroup.threads || exit 1";
    let mut config = config(&host, "threads", script);
    config["linux"]["resources"] = json!({});
    start(&host, "threads", &config);
    let list = || -> Vec<i32> {
        serde_json::from_str(&host.must(&["ps", "--format", "json", "threads"])).unwrap()
    };
    assert!(list().len() >= 2, "{:?}", list());
    host.must(&["kill", "--all", "threads", "USR1"]);
    eventually("it got the signal", || host.path("ready/got").exists());
    for verb in ["pause", "resume"] {
        host.must(&[verb, "threads"]);
    }
    delete(&host, "threads");
}

/// The same without a pid namespace of its own, where nothing but its cgroups leads to the processes.
#[test]
fn threaded_cgroups_of_a_shared_pid_namespace_are_killed() {
    let Some(host) = on_v2() else { return };
    let script = "cd /sys/fs/cgroup && mkdir part && echo threaded > part/cgroup.type || exit 1
        sleep 1000 & echo $! > part/cgroup.threads || exit 1";
    let mut config = config(&host, "shared", script);
    config["linux"]["resources"] = json!({});
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    start(&host, "shared", &config);
    delete(&host, "shared");
}

/// On v1 what is frozen does not die: a container that froze a part of itself could not be ended.
#[test]
fn what_froze_a_part_of_itself_can_be_deleted() {
    let Some(host) = enter() else { return };
    if !Path::new("/sys/fs/cgroup/freezer").exists() {
        return common::skip("the freezer controller is not on cgroup v1 here");
    }
    let script = "cd /sys/fs/cgroup/freezer && mkdir -p a/part || exit 1
        sleep 1000 & echo $! > a/part/cgroup.procs && echo FROZEN > a/part/freezer.state || exit 1";
    start(&host, "ice", &config(&host, "ice", script));
    delete(&host, "ice");
}

/// A process that is in a cgroup of the container, and not seen from where the runtime is, is listed there as 0 (v2), which kill(2) takes for the whole group of the caller.
#[test]
fn nobody_in_particular_gets_no_signal() {
    let Some(host) = on_v2() else { return };
    let mut config = root_config(&host, "zero", ": > /ready/yes; exec sleep 1000", "");
    config["linux"]["resources"] = json!({});
    fs::create_dir_all(host.path("ready")).unwrap();
    let ready = json!({"destination": "/ready", "source": host.path("ready"), "options": ["bind"]});
    add_mount(&mut config, ready);
    let bundle = host.bundle("zero", &config);
    // A pid namespace further inside, in which the runtime is, and a group of processes of its own.
    let script = format!(
        "set -m; r='{} --root {}'
         $r run --detach --bundle {} zero </dev/null >/dev/null 2>&1 || exit 1
         while ! [ -e {ready}/yes ]; do sleep 0.01; done; echo up > {ready}/up
         while ! [ -e {ready}/moved ]; do sleep 0.01; done
         trap 'echo hit' USR1
         $r kill --all zero USR1; echo \"killed $?\"; $r delete --force zero; echo \"deleted $?\"",
        common::binary().display(),
        host.root().display(),
        bundle.display(),
        ready = host.path("ready").display(),
    );
    put(&host.path("inner.sh"), &script);
    let inner = Command::new("unshare")
        .args(["-p", "--fork", "--mount-proc", "bash"])
        .arg(host.path("inner.sh"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    eventually("it is up", || host.path("ready/up").exists());
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let own = host.cgroups().into_iter().map(|dir| dir.join("zero"));
    let own: Vec<_> = own.filter(|dir| dir.exists()).collect();
    assert!(!own.is_empty());
    for dir in own {
        fs::write(dir.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    }
    put(&host.path("ready/moved"), "");
    let output = inner.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("killed 0\n"), "{text}");
    assert!(
        !text.contains("hit"),
        "the group of the caller was hit: {text}"
    );
    assert!(text.contains("deleted 0\n"), "{text}");
    // Whoever is in its cgroup ends with it.
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    eventually("all have ended", || {
        reap();
        processes().is_empty()
    });
    host.must(&["delete", "--force", "zero"]);
    host.assert_clean();
}
