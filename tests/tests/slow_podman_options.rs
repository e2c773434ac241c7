//! podman calls the runtime: users, files, devices and rights.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::process::Command;

use metactl_tests::command;
use metactl_tests::engines::{self, IMAGE, LIMIT, Podman, WORKER_IMAGE};
use metactl_tests::needs::PODMAN;
use metactl_tests::on_host;

#[test]
fn users_and_groups() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let ids = "id -u; id -g; id -G; umask";
        assert_eq!(
            podman.says(&["--user", "worker"], ids),
            "1000\n1000\n1000 2000\n0022"
        );
        assert_eq!(podman.says(&["--user", "7"], ids), "7\n0\n0\n0022");
        assert_eq!(
            podman.says(&["--user", "7:8", "--group-add", "9"], ids),
            "7\n8\n8 9\n0022"
        );
        assert_eq!(
            podman.says(&["--user", "worker:extra", "--umask", "0077"], ids),
            "1000\n2000\n2000\n0077"
        );
        podman
            .script(&["--user", "nobody-here"], "true")
            .fails(126)
            .says(&["no matching entries"]);
        let run = [
            "run",
            "--rm",
            "--network=none",
            WORKER_IMAGE,
            "sh",
            "-c",
            "id -un; pwd; echo $HOME",
        ];
        assert_eq!(podman.text(&run), "worker\n/tmp\n/tmp");
        let none = podman.says(
            &["--user", "worker"],
            "grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status",
        );
        assert!(
            none.lines().all(|line| line.ends_with("0000000000000000")),
            "{none}"
        );
        podman.finish();
    });
}

#[test]
fn file_systems() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let (data, below) = (podman.dir("data"), podman.dir("data/below"));
        fs::write(data.join("file"), "data\n").unwrap();
        host.command("mount", &["-t", "tmpfs", "below", below.to_str().unwrap()])
            .ok();
        let volume = |target: &str| format!("{}:{target}", data.display());

        let script = "for place in /etc /; do touch $place/new 2>&1; done; for place in /tmp /run /dev/shm /scratch; do touch $place/new || exit 9; done";
        let said = podman.says(&["--read-only", "--tmpfs", "/scratch"], script);
        assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
        let said = podman.says(
            &["--read-only", "--read-only-tmpfs=false"],
            "touch /tmp/new 2>&1; true",
        );
        assert!(said.contains("Read-only file system"), "{said}");

        podman
            .script(
                &["-v", &volume("/v:ro")],
                "cat /v/file; ls /v/below; touch /v/new",
            )
            .fails(1)
            .says(&["data", "Read-only"]);
        podman
            .script(
                &["-v", &volume("/v:rw,z,nosuid,nodev,noexec")],
                "touch /v/new; grep ' /v ' /proc/self/mountinfo",
            )
            .ok()
            .says(&["nosuid,nodev,noexec"]);
        assert!(data.join("new").exists());
        let mount = format!(
            "type=bind,src={},dst=/etc/one-file,ro=true",
            data.join("file").display()
        );
        assert_eq!(
            podman.says(&["--mount", &mount], "cat /etc/one-file"),
            "data"
        );
        // A target that is a symlink of the image is found inside.
        let rootfs = podman.image().rootfs.clone();
        let said = podman.says(&["-v", &volume("/proc-link/v")], "cat /proc-link/v/file");
        assert_eq!(said, "data");
        assert!(!rootfs.join("proc-link").exists());
        // A named volume begins with what the image has there.
        let said = podman.says(
            &["-v", "kept:/etc"],
            "cat /etc/from-image; echo changed > /etc/from-image",
        );
        assert_eq!(said, "from the image");
        assert_eq!(
            podman.says(&["-v", "kept:/etc"], "cat /etc/from-image"),
            "changed"
        );
        podman.run(&["volume", "rm", "kept"]).ok();

        // A tmpfs over a directory takes its content along; size and mode are kept.
        let tmpfs = [
            "--tmpfs",
            "/etc",
            "--tmpfs",
            "/scratch:size=64k,mode=0750,noexec",
        ];
        let said = podman.says(&tmpfs,
            "cat /etc/from-image; stat -c %a /scratch; head -c 100000 /dev/zero > /scratch/big || echo full; grep /scratch /proc/mounts",
        );
        assert!(
            said.starts_with("from the image\n750\nfull\n") && said.contains("noexec"),
            "{said}"
        );
        assert!(
            podman
                .says(&["--shm-size", "2m"], "grep /dev/shm /proc/mounts")
                .contains("size=2048k")
        );
        host.command("umount", &[below.to_str().unwrap()]).ok();
        podman.finish();
    });
}

#[test]
fn mounts_propagate_as_they_are_asked_to() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let dir = podman.shared_dir("shared");
        let volume = |options: &str| format!("{}:/v:{options}", dir.display());
        let place = podman.dir("shared/place");
        let place = place.to_str().unwrap();
        for (options, arrives, leaves) in [
            ("rprivate", false, false),
            ("rslave", true, false),
            ("rshared", true, true),
        ] {
            let taker = podman.idle("taker", &["--cap-add=sys_admin", "-v", &volume(options)]);
            host.command("mount", &["-t", "tmpfs", "arriving", place])
                .ok();
            let seen = taker.script("grep -q arriving /proc/mounts").code == 0;
            host.command("umount", &[place]).ok();
            assert_eq!(seen, arrives, "{options}");
            taker.script("mount -t tmpfs leaving /v/place").ok();
            let seen = fs::read_to_string("/proc/mounts")
                .unwrap()
                .contains("leaving");
            assert_eq!(seen, leaves, "{options}");
            taker.script("umount /v/place").ok();
            taker.remove();
        }
        host.command("umount", &[dir.to_str().unwrap()]).ok();
        podman.finish();
    });
}

#[test]
fn capabilities_and_filters() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let status = "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status";
        let options = [
            "--cap-drop=all",
            "--cap-add=net_admin,chown",
            "--security-opt=no-new-privileges",
        ];
        let said = podman.says(&options, status);
        let bits = format!("{:016x}", (1 << 12) | 1);
        assert_eq!(
            said,
            format!("CapEff:\t{bits}\nCapBnd:\t{bits}\nNoNewPrivs:\t1\nSeccomp:\t2")
        );
        podman
            .script(&["--cap-drop=all"], "chown 1 /tmp")
            .fails(1)
            .says(&["Operation not permitted"]);
        let user = ["--user=worker", "--cap-add=net_admin"];
        podman
            .script(&user, "grep CapEff /proc/self/status")
            .ok()
            .says(&["0000000000001000"]);
        let said = podman.says(&["--security-opt=seccomp=unconfined"], status);
        assert!(said.ends_with("NoNewPrivs:\t0\nSeccomp:\t0"), "{said}");
        // The default profile: a call that needs a capability that is not there.
        podman
            .script(&[], "unshare -m true")
            .fails(1)
            .says(&["Operation not permitted"]);
        podman
            .script(
                &["--privileged"],
                "unshare -m true; test -w /proc/sys/kernel && grep CapEff /proc/self/status",
            )
            .ok()
            .says(&["1ff"]);

        let profile = podman.dir("seccomp").join("profile.json");
        let text = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                 "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
            ],
        });
        fs::write(&profile, text.to_string()).unwrap();
        let option = format!("--security-opt=seccomp={}", profile.display());
        let script = "mkdir /d; trap 'echo usr2' USR2; kill -USR2 $$; kill -USR1 $$";
        podman.script(&[&option], script).says(&[
            "No space left on device",
            "usr2",
            "Operation not permitted",
        ]);
        // Whoever is executed later has the same filter and the same rights.
        let filtered = podman.idle("filtered", &[&option, "--cap-drop=all"]);
        filtered
            .script("mkdir /d")
            .fails(1)
            .says(&["No space left on device"]);
        filtered
            .script("grep CapBnd /proc/self/status")
            .ok()
            .says(&["CapBnd:\t0000000000000000"]);
        filtered.remove();

        // What is masked and read-only, and what is not any more.
        let said = podman.says(&[],
            "cat /proc/timer_list /proc/kcore | wc -c; echo 1 2>&1 > /proc/sys/kernel/panic; ls /sys/firmware | wc -l",
        );
        assert!(said.starts_with("0\n") && said.ends_with("\n0"), "{said}");
        podman.says(
            &[
                "--security-opt=unmask=/proc/timer_list",
                "--security-opt=mask=/etc/group",
            ],
            "test ! -s /etc/group",
        );
        podman.finish();
    });
}

#[test]
fn devices_sysctls_and_limits_of_processes() {
    on_host(PODMAN, |host| {
        let podman = Podman::on(host);
        let options = [
            "--device=/dev/null:/dev/nothing:rw",
            "--device=/dev/zero:/dev/only-read:r",
            "--device=/dev/full:/dev/all",
        ];
        let script = "echo x > /dev/nothing && test -c /dev/nothing && head -c 3 /dev/zero | wc -c && test -c /dev/only-read; ls /dev";
        let said = podman.says(&options, script);
        for name in [
            "3\n", "all", "nothing", "console", "fd", "full", "mqueue", "null", "ptmx", "pts",
            "random", "shm", "stderr", "tty", "urandom", "zero",
        ] {
            assert!(said.contains(name) || name == "console", "{name} in {said}");
        }
        // A device that is not on the list can be made, but not opened.
        let script = "mknod /tmp/mem c 1 1 && cat /tmp/mem > /dev/null";
        podman
            .script(&["--cap-add=mknod"], script)
            .fails(1)
            .says(&["Operation not permitted"]);
        let allowed = ["--cap-add=mknod", "--device-cgroup-rule=c 1:7 rw"];
        podman
            .script(&allowed, "mknod /tmp/full c 1 7 && echo x > /tmp/full")
            .fails(1)
            .says(&["No space left on device"]);

        let options = [
            "--sysctl=net.ipv4.ip_forward=1",
            "--sysctl=kernel.msgmax=1234",
            "--hostname=box",
            "--oom-score-adj=77",
        ];
        let said = podman.says(&options,
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; hostname; cat /proc/self/oom_score_adj",
        );
        assert_eq!(said, "1\n1234\nbox\n77");
        // A sysctl without a namespace is not the container's.
        podman
            .script(&["--sysctl=kernel.panic=1"], "true")
            .fails(125);
        let options = [
            "--ulimit=nofile=100:200",
            "--ulimit=core=0:0",
            "--ulimit=nproc=4000:4000",
        ];
        assert_eq!(
            podman.says(&options, "ulimit -Sn; ulimit -Hn; ulimit -c"),
            "100\n200\n0"
        );
        let options = [
            "-e",
            "A=b c",
            "-w",
            "/var/tmp",
            "--entrypoint",
            "[\"sh\", \"-c\", \"pwd; echo $A; exit 5\"]",
        ];
        let run = [&["run", "--rm", "--network=none"], &options[..], &[IMAGE]].concat();
        podman.run(&run).fails(5).says(&["/var/tmp\nb c\n"]);

        // A descriptor of the caller's; the runtime's own are not there.
        let file = podman.dir("descriptor").join("file");
        fs::write(&file, "handed over\n").unwrap();
        let preserve = [
            "run",
            "--rm",
            "--network=none",
            "--preserve-fds=1",
            IMAGE,
            "sh",
            "-c",
            "cat <&3; ls /proc/self/fd",
        ];
        let run = podman.command(&preserve);
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 3< \"$0\"; exec \"$@\""]).arg(&file);
        shell.arg(run.get_program()).args(run.get_args());
        shell.envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        // The last one is that of ls.
        assert_eq!(
            engines::text(command::run(shell, LIMIT)),
            "handed over\n0\n1\n2\n3\n4"
        );
        assert_eq!(podman.says(&[], "ls /proc/self/fd"), "0\n1\n2\n3");
        assert_eq!(
            podman.says(&["--init"], "cat /proc/1/comm; test $$ != 1"),
            "podman-init"
        );
        podman.finish();
    });
}
