//! podman calls the runtime: cgroups and namespaces, of one's own and shared.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use metactl_tests::engines::{self, IMAGE, LIMIT, Podman};
use metactl_tests::needs::{CURL, PODMAN};
use metactl_tests::{eventually, on_host};

#[test]
fn limits_are_in_the_cgroup_and_can_be_changed() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let options = [
            "-m",
            "48m",
            "--pids-limit",
            "33",
            "--cpus",
            "0.5",
            "--cpuset-cpus",
            "0",
        ];
        let limited = podman.idle("limited", &options);
        let pid = limited.pid();
        let memory = || engines::limit(pid, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory(), (48 << 20).to_string());
        assert_eq!(engines::limit(pid, "pids", "pids.max", "pids.max"), "33");
        assert_eq!(engines::quota(pid), 50);
        assert_eq!(
            engines::limit(pid, "cpuset", "cpuset.cpus", "cpuset.cpus"),
            "0"
        );
        let usage = [
            "stats",
            "--no-stream",
            "--format",
            "{{.MemUsage}}",
            "limited",
        ];
        let usage = podman.text(&usage);
        assert!(
            usage.ends_with("B / 50.33MB") && !usage.starts_with("0B"),
            "{usage}"
        );
        // Programs look for their limits where cgroups are mounted.
        let inside = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>&1";
        limited.script(inside).says(&["50331648"]);
        // Whoever is executed there is limited as well.
        limited
            .script("for i in $(seq 60); do sleep 1000 & done")
            .says(&["can't fork"]);
        limited
            .does(&[
                "update",
                "--memory",
                "96m",
                "--cpus",
                "1.5",
                "--cpu-shares",
                "333",
            ])
            .ok();
        assert_eq!(memory(), (96 << 20).to_string());
        assert_eq!(engines::quota(pid), 150);
        assert_eq!(engines::limit(pid, "pids", "pids.max", "pids.max"), "33");
        if let Ok(shares) = fs::read_to_string(engines::cgroup(pid, "cpu").join("cpu.shares")) {
            assert_eq!(shares.trim(), "333");
        }
        limited.remove();

        // In every hierarchy it is in a cgroup of its own: nothing of it counts elsewhere.
        let plain = podman.idle("plain", &[]);
        let id = plain.inspect("{{.Id}}");
        engines::assert_in_every_hierarchy(plain.pid(), &id);
        plain.remove();

        // Out of memory: the kernel kills who wants too much, or now and then the first process.
        let fat = ["-m", "24m", "--memory-swap", "24m"];
        let script = "head -c 200000000 /dev/zero | tail > /dev/null; echo $?";
        let killed = podman.script(&fat, script);
        assert!(
            killed.code == 137 || killed.stdout == "137\n",
            "expected an end out of memory of {killed}"
        );
        podman.finish();
    });
}

#[test]
fn user_namespaces() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let maps = "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /made && stat -c %u:%g /made /etc/passwd /proc/1; cat /proc/self/setgroups";
        let words = |text: String| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let options = ["--uidmap", "0:100000:5000", "--gidmap", "0:300000:5000"];
        let said = words(podman.says(&options, maps));
        assert_eq!(said, "0 100000 5000 0 300000 5000 0 0:0 0:0 0:0 allow");
        let said = words(podman.says(&["--userns=auto"], maps));
        assert!(
            said.starts_with("0 200000 ") && said.ends_with(" 0 0:0 0:0 0:0 allow"),
            "{said}"
        );
        let said = words(podman.says(
            &["--userns=auto:size=5000", "--user", "worker"],
            "cat /proc/self/uid_map; id -u; id -G",
        ));
        assert_eq!(said, "0 200000 5000 1000 1000 2000");

        // Everything that podman does with one that runs; the namespace is another, and holds for all.
        let mapped = podman.idle("mapped", &options);
        let status = fs::read_to_string(format!("/proc/{}/status", mapped.pid())).unwrap();
        assert!(status.contains("Uid:\t100000\t100000"), "{status}");
        mapped
            .script("test $(id -u) = 0 && hostname && mkdir /tmp/new && chown 5:5 /tmp/new")
            .ok();
        assert_eq!(
            words(engines::text(mapped.script("cat /proc/self/uid_map"))),
            "0 100000 5000"
        );
        assert_eq!(
            engines::text(mapped.exec(&["-u", "worker"], &["id", "-u"])),
            "1000"
        );
        mapped.does(&["pause"]).ok();
        mapped.does(&["unpause"]).ok();
        assert_eq!(mapped.inspect("{{.State.Status}}"), "running");
        mapped.remove_mapped();
        let limited = [
            "--uidmap",
            "0:100000:5000",
            "-m",
            "48m",
            "--read-only",
            "--tmpfs",
            "/scratch",
            "--cap-drop=all",
        ];
        podman
            .script(&limited, "echo x > /scratch/x; touch /etc/x")
            .fails(1)
            .says(&["Read-only file system"]);
        let mut terminal = podman.terminal(&[
            "run",
            "--rm",
            "-it",
            "--network=none",
            "--uidmap",
            "0:100000:5000",
            IMAGE,
            "sh",
        ]);
        terminal.wait_for("# ", LIMIT);
        terminal.press("tty; echo done; exit 6\n");
        terminal.wait_for("/dev/pts/0", LIMIT);
        assert_eq!(terminal.wait(LIMIT), 6);
        podman.finish();
    });
}

#[test]
fn namespaces_are_shared_as_they_are_asked_to() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let kinds = ["ipc", "net", "pid", "uts"];
        let script = "for kind in ipc net pid uts mnt; do readlink /proc/self/ns/$kind; done";
        let of_process = |pid: &str| {
            kinds.map(|kind| {
                fs::read_link(format!("/proc/{pid}/ns/{kind}"))
                    .unwrap()
                    .display()
                    .to_string()
            })
        };
        let ours = of_process("self").join("\n");
        let all = [
            "run",
            "--rm",
            "--pid=host",
            "--ipc=host",
            "--network=host",
            "--uts=host",
            IMAGE,
            "sh",
            "-c",
            script,
        ];
        let said = podman.text(&all);
        assert!(said.starts_with(&ours), "{said}, {ours}");
        let own = podman.says(&[], script);
        assert!(
            own.lines()
                .zip(ours.lines())
                .all(|(one, other)| one != other),
            "{own}, {ours}"
        );

        let first = podman.idle("first", &["--ipc=shareable"]);
        let theirs = of_process(&first.pid().to_string()).join("\n");
        let join = [
            "run",
            "--rm",
            "--ipc=container:first",
            "--network=container:first",
            "--pid=container:first",
            "--uts=container:first",
            IMAGE,
            "sh",
            "-c",
        ];
        let said = podman.text(&[&join[..], &[script]].concat());
        assert!(said.starts_with(&theirs), "{said}, {theirs}");
        podman
            .run(&[&join[..], &["ps"]].concat())
            .ok()
            .says(&["sleep 1000"]);
        // Process 1 of the namespace is the first one's; a container that shares it ends alone.
        assert_eq!(first.inspect("{{.State.Status}}"), "running");
        let second = [
            "run",
            "-d",
            "--name=second",
            "--network=none",
            "--pid=container:first",
            IMAGE,
            "sleep",
            "1000",
        ];
        podman.run(&second).ok();
        podman.run(&["rm", "-f", "-t", "0", "second"]).ok();
        assert_eq!(first.inspect("{{.State.Status}}"), "running");
        first.remove();

        // A cgroup namespace of its own.
        let private = podman.says(&["--cgroupns=private"], "cat /proc/self/cgroup");
        assert!(
            private.lines().all(|line| line.ends_with(":/")),
            "{private}"
        );
        podman.finish();
    });
}

#[test]
fn containers_without_cgroups() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        // podman asks for it with an option of crun's; runc does not have it.
        let without = podman.says(&["--cgroups=disabled"], "cat /proc/self/cgroup");
        assert!(!without.contains("libpod-"), "{without}");
        podman.finish();
    });
}

#[test]
fn pods() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        for infra in [
            &["--infra=false"][..],
            &[
                "--network=none",
                "--infra-image",
                IMAGE,
                "--infra-command",
                "/bin/sleep 1000",
            ],
        ] {
            podman
                .run(&[&["pod", "create", "--name=pod"], infra].concat())
                .ok();
            let network: &[&str] = if infra.len() == 1 {
                &["--network=none"]
            } else {
                &[]
            };
            for name in ["one", "two"] {
                let run = [
                    &["run", "-d", "--pod=pod", "--name", name],
                    network,
                    &[IMAGE, "sleep", "1000"],
                ];
                podman.run(&run.concat()).ok();
            }
            let pid = |name| podman.text(&["inspect", "-f", "{{.State.Pid}}", name]);
            let net = |name| fs::read_link(format!("/proc/{}/ns/net", pid(name))).unwrap();
            assert_eq!(net("one") == net("two"), infra.len() > 1);
            podman.run(&["exec", "one", "sh", "-c", "exit 5"]).fails(5);
            podman.run(&["pod", "pause", "pod"]).ok();
            assert_eq!(
                podman.text(&["inspect", "-f", "{{.State.Status}}", "two"]),
                "paused"
            );
            podman.run(&["pod", "unpause", "pod"]).ok();
            podman.run(&["pod", "stop", "-t", "0", "pod"]).ok();
            podman.run(&["pod", "start", "pod"]).ok();
            assert_eq!(
                podman.text(&["inspect", "-f", "{{.State.Status}}", "two"]),
                "running"
            );
            podman.run(&["pod", "rm", "-f", "-t", "0", "pod"]).ok();
        }
        podman.finish();
    });
}

#[test]
fn a_bridge_connects_containers() {
    on_host(&[PODMAN, &[CURL]].concat(), |host| {
        let podman = Podman::on(host);
        let serve = "mkdir /www; echo hello from inside > /www/page; exec httpd -f -p 80 -h /www";
        let run = [
            "run",
            "-d",
            "--name=web",
            "-p",
            "127.0.0.1:18080:80",
            IMAGE,
            "sh",
            "-c",
            serve,
        ];
        podman.run(&run).ok();
        let address = podman.text(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
        let page = format!("http://{address}/page");
        let published = "http://127.0.0.1:18080/page";
        for page in [page.as_str(), published] {
            eventually(&format!("an answer from {page}"), LIMIT, || {
                let got = host.command("curl", &["-s", "-m", "5", page]);
                (got.stdout == "hello from inside\n").then_some(())
            });
        }
        let client = ["run", "--rm", IMAGE, "wget", "-q", "-O", "-", &page];
        assert_eq!(podman.text(&client), "hello from inside");
        podman.run(&["rm", "-f", "-t", "0", "web"]).ok();
        podman.finish();
        // netavark's chains, the bridge and its sysctls stay.
        host.command("ip", &["link", "delete", "podman0"]);
        host.is_settled();
    });
}
