//! Instances come and go.

use std::fs;
use std::os::unix::fs::MetadataExt;

use metactl_tests::needs::GIT;
use metactl_tests::on_host;
use metactl_tests::terminal::Terminal;

use super::{APP, LIMIT, layer, repository, text, undo};

#[test]
fn an_instance_comes_is_configured_and_goes() {
    on_host(&[GIT], |host| {
        let repo = repository(host, APP);
        let new = host.run(&["new", "myapp", &repo]).ok().says(&[
            ".metactl at 1.2.3: webapp (exec), jobmanager (exec), 1 cron job",
            "wrote",
            "nodes/myapp.conf",
            "needed from site: DB_HOST   (.metactl:16)",
            "needed from site: DB_PORT",
            "✓ fetch",
            "1.2.3 (",
            "Next: metactl myapp set env:DB_HOST=... env:DB_PORT=...",
            "Undo: metactl myapp delete",
        ]);
        assert!(!new.stdout.contains("not granted"), "{new}");
        let written = text(host, "myapp");
        assert!(
            written.contains(&format!("[build]\nrepo = {repo}\ntag = 1.2.3\n")),
            "{written}"
        );
        assert_eq!(
            layer(host, "myapp").metadata().unwrap().mode() & 0o777,
            0o600
        );
        // Nobody's instance is overwritten.
        host.run(&["new", "myapp", &repo])
            .fails(64)
            .says(&["there is an instance"]);
        assert_eq!(text(host, "myapp"), written);

        // Before the first deployment, one name at a time.
        host.run(&["myapp", "set", "env:DB_HOST=mysql.example.org"])
            .ok()
            .says(&[
                "nodes/myapp.conf:8  DB_HOST = mysql.example.org",
                "valid",
                "still needed: DB_PORT",
                "Undo: metactl myapp unset env:DB_HOST",
            ]);
        host.run(&["myapp", "set", "env:DB_PORT=x3306"])
            .fails(78)
            .says(&[".metactl:16"]);
        host.run(&["myapp", "set", "env:DB_PORT=3306"])
            .ok()
            .never_says(&["needed"]);
        host.run(&["myapp", "deploy"]).ok();
        host.run(&["myapp", "changed"]).ok();
        let data = host.state("myapp").join("data");
        fs::write(data.join("kept"), "x").unwrap();
        let uid = data.metadata().unwrap().uid();

        // There is nobody to ask.
        host.run(&["myapp", "delete"]).fails(64).says(&["--yes"]);
        // There is, and it is no; what goes and what stays stands above the question.
        let mut terminal = Terminal::spawn(&host.metactl(&["myapp", "delete"]));
        terminal.wait_for("Delete myapp? [y/N]", LIMIT);
        for text in [
            "myapp runs, and will be stopped",
            "goes",
            "stays",
            "myapp/data",
        ] {
            assert!(terminal.screen().contains(text), "{}", terminal.screen());
        }
        terminal.press("n\n");
        assert_eq!(terminal.wait(LIMIT), 1);
        host.run(&["myapp", "status"]).ok();
        let deleted = host.run(&["myapp", "delete", "--yes"]).ok().says(&[
            "myapp is deleted",
            "gone",
            "nodes/myapp.conf",
            "stays",
            "myapp/data",
        ]);
        assert!(!layer(host, "myapp").exists());
        host.assert_nothing_left();
        host.run(&["myapp", "status"]).fails(69);
        host.run(&["list"]).ok().never_says(&["myapp"]);
        let mut left: Vec<String> = fs::read_dir(host.state("myapp"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["allocation.json", "data", "local.before"],
            "{deleted}"
        );

        // The way back, as it was printed; the data belong to the same user still.
        undo(host, &deleted).ok();
        host.run(&["myapp", "status"]).ok();
        assert_eq!(data.join("kept").metadata().unwrap().uid(), 0);
        assert_eq!(data.metadata().unwrap().uid(), uid);
        host.run(&["myapp", "delete", "--data", "--yes"])
            .ok()
            .says(&["cannot be undone"]);
        assert!(
            !host.state("myapp").exists() && !host.log("myapp", "x").parent().unwrap().exists()
        );
        host.run(&["new", "myapp", &repo]).ok();
        host.run(&["myapp", "delete", "--yes"]).ok();
    });
}

#[test]
fn what_the_repository_says_is_known_before_the_first_deployment() {
    on_host(&[GIT], |host| {
        let repo = repository(host, APP);
        host.run(&["new", "myapp", &repo]).ok();
        host.run(&["myapp", "show", "env:GREETING", "--origin"])
            .ok()
            .says(&["from the app", ".metactl:3"]);
        let get = |key: &str| host.run(&["myapp", "get", key]);
        assert_eq!(get("jobmanager:stop.timeout").ok().stdout, "6s\n");
        get("jobmanager:stop.timout")
            .fails(64)
            .says(&["\nhelp: did you mean `stop.timeout`?"]);
        host.run(&["myapp", "why", "GREETING"])
            .ok()
            .says(&["yes", ".metactl:3"]);
        // Deleting it is undone, too, with everything that stood in its file.
        let written = text(host, "myapp");
        let deleted = host.run(&["myapp", "delete", "--yes"]).ok();
        assert!(!layer(host, "myapp").exists());
        undo(host, &deleted).ok();
        assert_eq!(text(host, "myapp"), written);
        // A folder is looked into as it is.
        let folder = host.work().join("folder");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".metactl"), APP).unwrap();
        host.run(&["new", "shown", folder.to_str().unwrap()]).ok();
        host.run(&["shown", "show", "env:GREETING"])
            .ok()
            .says(&["from the app"]);
        // A folder may have no configuration of its own; that is said.
        let folder = host.work().join("plain");
        fs::create_dir_all(&folder).unwrap();
        host.run(&["new", "plain", folder.to_str().unwrap()])
            .ok()
            .says(&["no .metactl in"]);
        host.run(&["plain", "get", "port"])
            .fails(64)
            .says(&["it is one of [daemon.NAME]: daemon.NAME:port"]);
    });
}

#[test]
fn new_finds_an_address_and_ports_and_tells_what_is_not_granted() {
    on_host(&[GIT], |host| {
        let _lan = host.lan();
        let app = APP.replace("stop.timeout = 6s", "port = 9000");
        let app = format!("{app}\n[sandbox.mounts]\n/photos = /srv/photos\n");
        let repo = repository(host, &app);
        host.server_conf("[server]\npool = 10.99.0.0/28\n[sandbox.net]\nmode = routed\n");
        host.run(&["new", "one", &repo]).ok().says(&[
            "ip 10.99.0.2   from the pool, nobody answers there",
            "asked for, not granted: [sandbox.mounts] /photos = /srv/photos   (.metactl:19)",
            "granted by:",
        ]);
        assert!(text(host, "one").contains("[sandbox.net]\nip = 10.99.0.2\n"));
        // Without a pool of its own, nobody guesses.
        host.server_conf("[sandbox.net]\nmode = routed\n");
        host.run(&["new", "two", &repo])
            .ok()
            .says(&["metactl two set sandbox.net:ip=..."]);
        // In the server's own network ports must not clash.
        host.server_conf("[sandbox.net]\nmode = host\n");
        let taken = std::net::TcpListener::bind("0.0.0.0:9000").unwrap();
        host.run(&["new", "three", &repo, "--tag", "1.2.2"])
            .ok()
            .says(&[
                ".metactl at 1.2.2",
                "daemon.jobmanager:port 9001   because 9000 is taken",
            ]);
        assert!(text(host, "three").contains("[daemon.jobmanager]\nport = 9001\n"));
        drop(taken);
        host.is_settled();
    });
}

#[test]
fn new_refuses_what_cannot_be() {
    on_host(&[GIT], |host| {
        let repo = repository(host, "[bulid]\ncommand = x\n");
        for name in [
            "../x", "a/b", "..", "status", "new", "nodes", ".x", "a b", "x.conf",
        ] {
            host.run(&["new", name, &repo]).fails(64);
            host.run(&["-a", name, "set", "env:A=1"]).fails(64);
        }
        host.run(&["new"]).fails(64);
        host.run(&["new", "x", &repo, "more"]).fails(64);
        host.run(&["new", "x", &repo])
            .fails(78)
            .says(&[".metactl:1:2", "did you mean [build]?"]);
        host.run(&["new", "x", "/no/such/folder"]).fails(1);
        host.run(&["new", "x", "ext::sh -c touch% /tmp/x"])
            .fails(78);
        host.run(&["new", "x", &repo, "--tag", "9.9"])
            .fails(1)
            .says(&["1.2.3"]);
        host.run(&["x", "set", "env:A=1"])
            .fails(69)
            .says(&["metactl new x REPO"]);
        let nodes = host.root().join("etc/metactl/nodes");
        assert!(
            fs::read_dir(nodes).unwrap().next().is_none(),
            "nothing is written"
        );
        assert!(!host.root().join("etc/x.conf").exists());
    });
}
