//! Plans on paper, v2 on a tree of plain directories, v1 and the device program on this kernel.

use super::*;
use crate::cgroup::{CgroupPath, Hierarchy, Layout, Request, Unified, delete, kill_all, plan};
use crate::cgroup::{open, prune_parents, stats};
use oci_spec::runtime::LinuxResources;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn unified(at: &Path, controllers: &[&str]) -> Unified {
    Unified {
        mount_point: at.to_owned(),
        root: "/".into(),
        own: Some("/".into()),
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
    }
}

fn hierarchy(controllers: &[&str]) -> Hierarchy {
    let controllers: Vec<String> = controllers.iter().map(|c| (*c).to_owned()).collect();
    Hierarchy {
        mount_point: Path::new("/cg").join(controllers.join(",")),
        controllers,
        root: "/".into(),
        own: Some("/".into()),
    }
}

fn v1() -> Layout {
    let names: [&[&str]; 7] = [
        &["cpu", "cpuacct"],
        &["cpuset"],
        &["memory"],
        &["devices"],
        &["blkio"],
        &["pids"],
        &["name=systemd"],
    ];
    Layout::V1(names.into_iter().map(hierarchy).collect())
}

fn v2() -> Layout {
    Layout::V2(unified(
        Path::new("/cg"),
        &["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"],
    ))
}

fn planned(layout: &Layout, path: &str, own: &str, instance: Option<&str>) -> Vec<String> {
    try_plan(layout, path, own, instance)
        .unwrap()
        .steps()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn try_plan(
    layout: &Layout,
    path: &str,
    own: &str,
    instance: Option<&str>,
) -> Result<CgroupPlan, CgroupError> {
    let own = resources(own);
    let instance = instance.map(resources);
    let path = CgroupPath::new(path).unwrap();
    plan(
        layout,
        &Request {
            path: &path,
            resources: Some(&own),
            instance: instance.as_ref(),
            track: false,
            all: false,
            rootless: false,
        },
    )
}

#[test]
fn v1_uses_only_the_hierarchies_in_which_something_is_asked_for() {
    let own = r#"{"memory":{"limit":1048576},"pids":{"limit":10}}"#;
    let instance = r#"{"memory":{"limit":2097152},"cpu":{"shares":512}}"#;
    assert_eq!(
        planned(&v1(), "/metactl/app/web", own, Some(instance)),
        [
            "create cgroup /cg/cpu,cpuacct/metactl",
            "create cgroup /cg/cpu,cpuacct/metactl/app",
            r#"write "512" to /cg/cpu,cpuacct/metactl/app/cpu.shares"#,
            "create cgroup /cg/cpu,cpuacct/metactl/app/web",
            "join /cg/cpu,cpuacct/metactl/app/web",
            "create cgroup /cg/memory/metactl",
            "create cgroup /cg/memory/metactl/app",
            r#"write "2097152" to /cg/memory/metactl/app/memory.limit_in_bytes"#,
            "create cgroup /cg/memory/metactl/app/web",
            r#"write "1048576" to /cg/memory/metactl/app/web/memory.limit_in_bytes"#,
            "join /cg/memory/metactl/app/web",
            "create cgroup /cg/pids/metactl",
            "create cgroup /cg/pids/metactl/app",
            "create cgroup /cg/pids/metactl/app/web",
            r#"write "10" to /cg/pids/metactl/app/web/pids.max"#,
            "join /cg/pids/metactl/app/web",
        ]
    );
    assert!(planned(&v1(), "/a", "{}", None).is_empty());
    let plan = try_plan(&v1(), "/metactl/app/web", own, None).unwrap();
    assert_eq!(
        plan.directories(),
        [
            Path::new("/cg/memory/metactl/app/web"),
            Path::new("/cg/pids/metactl/app/web"),
        ]
    );
    assert_eq!(
        plan.parents()[..2],
        [
            PathBuf::from("/cg/memory/metactl"),
            PathBuf::from("/cg/memory/metactl/app"),
        ]
    );
}

#[test]
fn v2_enables_controllers_on_the_way_down() {
    let own = r#"{"memory":{"limit":1048576,"swap":1572864,"reservation":4096},
        "cpu":{"shares":1024,"quota":50000},"pids":{"limit":-1},
        "blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}]},
        "unified":{"memory.high":"524288"}}"#;
    let instance = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}],"memory":{"limit":-1}}"#;
    assert_eq!(
        planned(&v2(), "/metactl/web", own, Some(instance)),
        [
            "enable memory, cpu, pids, io, hugetlb below /cg",
            "create cgroup /cg/metactl",
            r#"write "max" to /cg/metactl/memory.max"#,
            r#"write "0" to /cg/metactl/hugetlb.2MB.max"#,
            r#"write "0" to /cg/metactl/hugetlb.2MB.rsvd.max, if it is there"#,
            "enable memory, cpu, pids, io below /cg/metactl",
            "create cgroup /cg/metactl/web",
            r#"write "524288" to /cg/metactl/web/memory.swap.max"#,
            r#"write "1048576" to /cg/metactl/web/memory.max"#,
            r#"write "4096" to /cg/metactl/web/memory.low"#,
            r#"write "100" to /cg/metactl/web/cpu.weight"#,
            r#"write "50000 100000" to /cg/metactl/web/cpu.max"#,
            r#"write "max" to /cg/metactl/web/pids.max"#,
            r#"write "500" to /cg/metactl/web/io.bfq.weight, or "default 4950" to io.weight"#,
            r#"write "8:0 rbps=1000" to /cg/metactl/web/io.max"#,
            r#"write "524288" to /cg/metactl/web/memory.high"#,
            "clone into /cg/metactl/web",
        ]
    );
    assert_eq!(
        planned(&v2(), "/a", "{}", None),
        ["create cgroup /cg/a", "clone into /cg/a"]
    );
}

#[test]
fn weights_are_converted_as_runc_does() {
    use super::super::v2::{cpu_weight, io_weight};
    for (shares, weight) in [
        (2, 1),
        (100, 17),
        (200, 29),
        (1024, 100),
        (3333, 256),
        (262_144, 10_000),
        (1, 1),
        (999_999, 10_000),
    ] {
        assert_eq!(cpu_weight(shares), weight, "{shares}");
    }
    for (weight, want) in [(10, 1), (500, 4950), (1000, 10_000)] {
        assert_eq!(io_weight(weight), want, "{weight}");
    }
}

#[test]
fn what_cannot_be_enforced_is_an_error_that_names_it() {
    let bare = Layout::V1(vec![hierarchy(&["memory"])]);
    let hybrid = Layout::Hybrid(
        vec![hierarchy(&["memory"])],
        unified(Path::new("/u"), &["io"]),
    );
    for (layout, json, want) in [
        (
            &bare,
            r#"{"pids":{"limit":5}}"#,
            "linux.resources.pids.limit needs the cgroup controller \"pids\"",
        ),
        (
            &bare,
            r#"{"devices":[{"allow":false,"access":"rwm"}]}"#,
            "\"devices\"",
        ),
        (
            &bare,
            r#"{"unified":{"memory.high":"1"}}"#,
            "cgroup v1 only",
        ),
        (
            &hybrid,
            r#"{"unified":{"memory.high":"1"}}"#,
            "cgroup hybrid: io, memory",
        ),
        (&hybrid, r#"{"cpu":{"shares":5}}"#, "\"cpu\""),
        (
            &v1(),
            r#"{"memory":{"limit":10,"swap":5}}"#,
            "cannot be below memory.limit",
        ),
        (&v2(), r#"{"memory":{"swap":5}}"#, "needs memory.limit"),
        (&v2(), r#"{"memory":{"limit":-2}}"#, "not a number of bytes"),
        (
            &v1(),
            r#"{"memory":{"useHierarchy":false}}"#,
            "hierarchically",
        ),
        (&v2(), r#"{"memory":{"swappiness":5}}"#, "no swappiness"),
        (
            &v2(),
            r#"{"memory":{"disableOOMKiller":true}}"#,
            "OOM killer",
        ),
        (&v1(), r#"{"memory":{"swappiness":101}}"#, "0..=100"),
        (&v2(), r#"{"cpu":{"realtimeRuntime":5}}"#, "real-time"),
        (&v2(), r#"{"network":{"classID":5}}"#, "net_cls"),
        (&v1(), r#"{"network":{"classID":5}}"#, "\"net_cls\""),
        (&v1(), r#"{"cpu":{"cpus":"0-3\n4"}}"#, "list such as"),
        (&v1(), r#"{"blockIO":{"weight":5}}"#, "10..=1000"),
        (
            &v2(),
            r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
            "page size such as",
        ),
        (
            &v2(),
            r#"{"unified":{"cgroup.procs":"1"}}"#,
            "belongs to the runtime",
        ),
        (
            &v2(),
            r#"{"unified":{"memory/../x":"1"}}"#,
            "not the name of a control file",
        ),
        (&v2(), r#"{"unified":{"cpux.max":"1"}}"#, "\"cpux\""),
        (
            &v1(),
            r#"{"devices":[{"allow":true,"type":"p","access":"r"}]}"#,
            "devices[0]",
        ),
        (
            &v1(),
            r#"{"devices":[{"allow":true,"type":"c","access":"rx"}]}"#,
            "none of r, w and m",
        ),
        (
            &v1(),
            r#"{"devices":[{"allow":true,"type":"c","access":"ra"}]}"#,
            "none of r, w and m",
        ),
        (
            &v1(),
            r#"{"devices":[{"allow":true,"type":"c","major":5000,"access":"r"}]}"#,
            "major 5000",
        ),
    ] {
        let error = try_plan(layout, "/a/b", json, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{json}: {error:?} lacks {want:?}");
    }
    let pids = Some(r#"{"pids":{"limit":5}}"#);
    let error = try_plan(&v1(), "/a", "{}", pids).unwrap_err().to_string();
    assert!(error.contains("directory above"), "{error}");
    // What is off, or not set in the way of runc, is not asked for.
    let nothing = r#"{"memory":{"limit":0,"swap":0,"kernel":5,"kernelTCP":5,"disableOOMKiller":false,
        "swappiness":18446744073709551615},
        "cpu":{"shares":0,"quota":0,"cpus":""},"network":{"classID":0},"blockIO":{"weight":0}}"#;
    assert!(planned(&bare, "/a", nothing, None).is_empty());
}

#[test]
fn a_container_without_limits_is_tracked_when_asked() {
    let tracked = |layout: &Layout| {
        let path = CgroupPath::new("/a").unwrap();
        let request = Request {
            path: &path,
            resources: None,
            instance: None,
            track: true,
            all: false,
            rootless: false,
        };
        let plan = plan(layout, &request).unwrap();
        plan.steps()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        tracked(&v1()),
        ["create cgroup /cg/pids/a", "join /cg/pids/a"]
    );
    let hybrid = Layout::Hybrid(vec![hierarchy(&["memory"])], unified(Path::new("/u"), &[]));
    assert_eq!(tracked(&hybrid), ["create cgroup /u/a", "clone into /u/a"]);
}

/// What engines look at after `create`: every hierarchy and every controller.
#[test]
fn all_hierarchies_and_controllers_are_joined_when_asked() {
    let path = CgroupPath::new("/a/b").unwrap();
    let own = resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    let steps = |layout: &Layout, rootless: bool| {
        let request = Request {
            path: &path,
            resources: Some(&own),
            instance: None,
            track: false,
            all: true,
            rootless,
        };
        let plan = plan(layout, &request).unwrap();
        (plan.directories().len(), plan.to_string())
    };
    let hybrid = Layout::Hybrid(v1().v1().to_vec(), unified(Path::new("/u"), &["hugetlb"]));
    let (joined, text) = steps(&hybrid, false);
    assert_eq!(joined, 8);
    assert!(text.contains("join /cg/name=systemd/a/b\n") && text.contains("clone into /u/a/b\n"));
    assert!(text.contains("devices.deny") && text.contains("if it can be had, hugetlb below /u\n"));
    let (joined, text) = steps(&v2(), true);
    assert_eq!(joined, 1);
    assert!(!text.contains("device program"), "{text}");
    let line = "enable, if it can be had, cpuset, cpu, io, memory, hugetlb, pids, rdma below /cg/a";
    assert!(text.contains(line), "{text}");
}

/// A directory that containers share is removed by the end of one and made by the start of
/// another, over and over: whoever makes it has it, or is told that it went away.
#[test]
fn a_directory_that_comes_and_goes_is_there_or_gone() {
    let root = tempfile::tempdir().unwrap();
    let shared = root.path().join("shared");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    if let Err(error) = create(&shared) {
                        assert!(error.is_of_what_is_gone(), "{error}");
                    }
                    std::fs::remove_dir(&shared).unwrap_or_default();
                }
            });
        }
    });
    std::fs::write(&shared, "").unwrap();
    let error = create(&shared).unwrap_err();
    assert!(!error.is_of_what_is_gone(), "{error}");
}

/// v2 on a tree of plain directories: the same writes, without a kernel behind them.
#[test]
fn v2_is_written_as_planned() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::V2(unified(root.path(), &["memory", "pids", "io"]));
    std::fs::write(root.path().join("cgroup.subtree_control"), "memory\n").unwrap();
    let own = r#"{"memory":{"limit":1000000},"pids":{"limit":7},"blockIO":{"weight":10}}"#;
    let plan = try_plan(&layout, "/m/a", own, Some(r#"{"pids":{"limit":9}}"#)).unwrap();
    let joined = plan.apply_as(Kernel::Fake).unwrap();
    assert!(joined.tasks.is_empty() && joined.directory.is_some());
    let text = |file: &str| std::fs::read_to_string(root.path().join(file)).unwrap();
    // Memory was enabled already.
    assert_eq!(text("cgroup.subtree_control"), "+pids +io");
    assert_eq!(text("m/cgroup.subtree_control"), "+memory +pids +io");
    assert_eq!(text("m/pids.max"), "9");
    assert_eq!(text("m/a/pids.max"), "7");
    assert_eq!(text("m/a/memory.max"), "1000000");
    assert_eq!(text("m/a/io.bfq.weight"), "10");
    plan.apply_as(Kernel::Fake).unwrap();
    let found = stats(plan.directories());
    assert_eq!(
        (found.memory_max, found.pids_max, found.pids_current),
        (Some(1_000_000), Some(7), None)
    );
}

/// Here the mount points are only read, and directories of this test's own are made and removed.
fn host() -> Option<(Layout, String)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let layout = Layout::detect().ok()?;
    let name = format!("/metactl-test-{}", std::process::id());
    Some((layout, name))
}

/// Processes that join by writing `0` to `tasks`, as a container's first process does.
fn sleepers(joined: &Joined) -> Child {
    use std::os::fd::AsRawFd;
    let fds: Vec<_> = joined.tasks.iter().map(|fd| fd.as_raw_fd()).collect();
    let this = std::process::id();
    let script: String = fds
        .iter()
        .map(|fd| format!("echo 0 > /proc/{this}/fd/{fd} && "))
        .chain(["(sleep 100 & sleep 100 & wait)".to_owned()])
        .collect();
    Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if ready() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("no {what} after five seconds");
}

#[test]
fn v1_on_this_kernel() {
    let needed = ["memory", "pids", "cpu", "cpuset", "devices"];
    let Some((layout, name)) =
        host().filter(|(layout, _)| needed.iter().all(|name| layout.hierarchy(name).is_some()))
    else {
        eprintln!("SKIP v1_on_this_kernel: needs root and the v1 hierarchies {needed:?}");
        return;
    };
    let own = r#"{"memory":{"limit":33554432},"pids":{"limit":20},"cpu":{"shares":256,"cpus":"0"},
        "devices":[{"allow":false,"access":"rwm"},
                   {"allow":true,"type":"c","major":10,"minor":200,"access":"rw"}]}"#;
    let instance = r#"{"memory":{"limit":67108864},"pids":{"limit":30}}"#;
    let path = format!("{name}/app/web");
    let plan = try_plan(&layout, &path, own, Some(instance)).unwrap();
    let more = own.replace("33554432", "50331648");
    let raised = try_plan(&layout, &path, &more, Some(instance)).unwrap();
    let result = std::panic::catch_unwind(|| {
        drop(plan.apply().unwrap());
        // Limits that are there already can be raised and lowered.
        drop(raised.apply().unwrap());
        let joined = plan.apply().unwrap();
        assert_eq!(joined.tasks.len(), 5);
        let mut child = sleepers(&joined);
        let dirs = plan.directories();
        let reading = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
        let memory = dirs
            .iter()
            .find(|d| d.join("memory.limit_in_bytes").exists())
            .unwrap();
        let above = memory.parent().unwrap();
        assert_eq!(reading(memory, "memory.limit_in_bytes"), "33554432\n");
        assert_eq!(reading(above, "memory.limit_in_bytes"), "67108864\n");
        let devices = dirs
            .iter()
            .find(|d| d.join("devices.list").exists())
            .unwrap();
        let list = reading(devices, "devices.list");
        assert!(
            list.contains("c 10:200 rw\n") && list.contains("c 1:3 rwm\n"),
            "{list}"
        );
        assert!(!list.contains("a *:*"), "{list}");
        wait_for("three processes", || stats(dirs).pids_current == Some(4));
        let measured = stats(dirs);
        assert_eq!(measured.memory_max, Some(33_554_432));
        assert_eq!(measured.pids_max, Some(20));
        assert!(
            measured.memory_current.is_some_and(|bytes| bytes > 0),
            "{measured:?}"
        );
        assert_eq!(measured.oom_kills, Some(0));
        // A second process joins later, as exec does.
        let reopened = open(dirs).unwrap();
        let mut second = sleepers(&reopened);
        wait_for("the second", || stats(dirs).pids_current == Some(8));
        let busy = std::fs::remove_dir(memory).unwrap_err();
        assert_eq!(busy.raw_os_error(), Some(libc::EBUSY));
        kill_all(dirs).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!second.wait().unwrap().success());
    });
    kill_all(plan.directories()).unwrap();
    delete(plan.directories()).unwrap();
    delete(plan.directories()).unwrap();
    prune_parents(plan.directories(), 2);
    result.unwrap();
    kill_all(plan.directories()).unwrap();
    for directory in plan.directories().iter().chain(plan.parents()) {
        assert!(
            !directory.exists(),
            "{} is still there",
            directory.display()
        );
    }
}

#[test]
fn v2_kill_and_devices_on_this_kernel() {
    let Some((layout, name)) = host().filter(|(layout, _)| layout.unified().is_some()) else {
        eprintln!("SKIP v2_kill_and_devices_on_this_kernel: needs root and a cgroup2 mount");
        return;
    };
    // Only the v2 part of this host: no controllers, but directories and device programs.
    let layout = Layout::V2(layout.unified().unwrap().clone());
    let own = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    let plan = try_plan(&layout, &format!("{name}-v2/web"), own, None).unwrap();
    let result = std::panic::catch_unwind(|| {
        drop(plan.apply().unwrap());
        let dir = &plan.directories()[0];
        let joined = open(plan.directories()).unwrap();
        assert!(joined.directory.is_some() && joined.tasks.is_empty());
        // /dev/null has a default rule; /dev/kmsg (1:11) stands for anything else.
        let script = format!(
            "echo $$ > {}/cgroup.procs && : < /dev/null && : < /dev/kmsg; echo $?; sleep 100",
            dir.display()
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut said).unwrap();
        kill_all(plan.directories()).unwrap();
        let output = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if !Path::new("/dev/kmsg").exists() {
            eprintln!("SKIP v2_kill_and_devices_on_this_kernel: the device part needs /dev/kmsg");
        } else {
            assert_ne!(said, "0\n");
            assert!(
                complaint.contains("/dev/kmsg: Operation not permitted"),
                "{complaint}"
            );
            assert!(!complaint.contains("/dev/null"), "{complaint}");
        }
    });
    kill_all(plan.directories()).unwrap();
    delete(plan.directories()).unwrap();
    prune_parents(plan.directories(), 1);
    result.unwrap();
    assert!(
        plan.directories()
            .iter()
            .chain(plan.parents())
            .all(|d| !d.exists())
    );
}
