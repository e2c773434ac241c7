//! Called as `runc`, by a symbolic link, the runtime has the words of runc: for engines and scripts
//! that read them. Under its own name it has its own.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::Output;

use common::{Host, both, enter, stderr, stdout};
use serde_json::{Value, json};

/// The runtime under the name of runc, as a distribution would link it.
fn link(host: &Host) -> PathBuf {
    let link = host.path("runc");
    std::os::unix::fs::symlink(common::binary(), &link).unwrap();
    link
}

#[test]
fn errors_of_runc() {
    let Some(host) = enter() else { return };
    let runc = link(&host);
    let call = |words: &[&str]| -> Output {
        let mut command = host.program(&runc);
        command.arg("--root").arg(host.root()).args(words);
        command.output().unwrap()
    };
    let run = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut config = host.config(id, "true");
        change(&mut config);
        let bundle = host.bundle(id, &config);
        let log = host.path(&format!("{id}.log"));
        let (bundle, log) = (bundle.to_str().unwrap(), log.to_str().unwrap());
        let output = call(&[
            "--log",
            log,
            "--log-format",
            "json",
            "run",
            "--bundle",
            bundle,
            id,
        ]);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        let text = std::fs::read_to_string(log).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error", "{text}");
        (stderr(&output), last["msg"].as_str().unwrap().to_owned())
    };

    // What the new process says when its program cannot be executed is a line of its own.
    let (seen, logged) = run("lost", &|config| {
        config["process"]["args"] = json!(["/bin/lost"])
    });
    assert_eq!(seen, "exec /bin/lost: no such file or directory\n");
    let begin = "runc run failed: unable to start container process: error during container init: ";
    assert!(
        logged.starts_with(&format!("{begin}exec /bin/lost: no such file")),
        "{logged}"
    );

    let (seen, logged) = run("path", &|config| {
        config["process"]["args"] = json!(["lost"])
    });
    let begin = "runc run failed: unable to start container process: ";
    assert_eq!(
        logged,
        format!("{begin}exec: \"lost\": executable file not found in $PATH")
    );
    assert_eq!(seen, format!("{logged}\n"));

    let hooks = json!({"createRuntime": [{"path": "/bin/true"}, {"path": "/bin/false"}]});
    let (_, logged) = run("hook", &|config| config["hooks"] = hooks.clone());
    let hook = format!("{begin}error running createRuntime hook #1: ");
    assert!(logged.starts_with(&hook), "{logged}");

    // The configuration too ends with 1; without a log the line is one of a log.
    let (_, logged) = run("odd", &|config| {
        config["process"]["cwd"] = json!("relative")
    });
    assert!(logged.starts_with("runc run failed: "), "{logged}");
    let output = call(&["state", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.starts_with("time=\"20") && text.contains("\" level=error msg=\""),
        "{text}"
    );
    let output = call(&["exec", "nobody", "true"]);
    assert_eq!(output.status.code(), Some(255));
    assert!(
        stderr(&output).contains("msg=\"exec failed: "),
        "{}",
        both(&output)
    );
    host.assert_clean();
}

#[test]
fn help_and_version_of_runc() {
    let Some(host) = enter() else { return };
    let runc = link(&host);
    let say = |words: &[&str]| {
        let output = host.program(&runc).args(words).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{words:?}: {}",
            both(&output)
        );
        stdout(&output)
    };
    let help = say(&["-h"]);
    assert!(
        help.starts_with("NAME:\n   runc - Open Container Initiative runtime"),
        "{help}"
    );
    let help = say(&["kill", "--help"]);
    assert!(
        help.starts_with("NAME:\n   runc kill - a signal to"),
        "{help}"
    );
    let version = say(&["--version"]);
    let words: Vec<&str> = version
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(words, ["runc", "commit:", "spec:"], "{version}");

    let own = stdout(&host.call(&["--version"]));
    assert!(own.starts_with("metactl-runtime version "), "{own}");
    let output = host.call(&["checkpoint", "x"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("checkpoints are not made"),
        "{}",
        both(&output)
    );
}
