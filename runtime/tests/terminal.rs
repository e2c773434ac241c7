//! Terminals: on the container's side, over a socket, and carried by a runtime in the foreground.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use common::{
    UID, both, descriptor, enter, eventually, processes, ready_config, reap, signal, stderr,
    stdout, wait_ready,
};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_terminal_goes_over_the_console_socket() {
    let Some(host) = enter() else { return };
    let mut config = host.config("console", "tty; stty size; echo got $(head -n 1); exit 5");
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    let bundle = host.bundle("console", &config);
    let bundle = bundle.to_str().unwrap();
    let output = host.call(&["create", "--bundle", bundle, "console"]);
    assert!(
        stderr(&output).contains("--console-socket"),
        "{}",
        both(&output)
    );
    let path = host.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    // Its output ends with `create`: the container holds its terminal only.
    let output = host.call(&[
        "create",
        "--bundle",
        bundle,
        "--console-socket",
        path.to_str().unwrap(),
        "console",
    ]);
    assert!(output.status.success(), "{}", both(&output));
    let (master, said) = descriptor(&listener.accept().unwrap().0);
    assert_eq!(said, b"/dev/ptmx");
    host.must(&["start", "console"]);
    let mut master = fs::File::from(master);
    master.write_all(b"typed\n").unwrap();
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while let Ok(n) = master.read(&mut buffer) {
        if n == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(
        text.contains("/dev/pts/0\r\n") && text.contains("33 77\r\n"),
        "{text}"
    );
    assert!(text.contains("got typed"), "{text}");
    host.must(&["delete", "--force", "console"]);
    reap();
    host.assert_clean();
}

#[test]
fn a_reader_that_stops_reading_stops_nothing_else() {
    let Some(host) = enter() else { return };
    let script = "trap 'exit 7' TERM; touch /ready/yes; yes & wait";
    let mut config = ready_config(&host, "full", script);
    config["process"]["terminal"] = json!(true);
    let mut command = host.run_command("full", &config, &[]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut run = command.spawn().unwrap();
    wait_ready(&host);
    // Until nobody can write any more: what is on its way stays the same.
    let waiting = || rustix::io::ioctl_fionread(run.stdout.as_ref().unwrap()).unwrap();
    eventually("the pipe is full", || {
        let before = waiting();
        std::thread::sleep(Duration::from_millis(200));
        before > 16 << 10 && waiting() == before
    });
    // It is handed on; what is left then waits for its reader until the next signal.
    signal(&run, Signal::TERM);
    eventually("the program has ended", || {
        let state = host.call(&["state", "full"]);
        !state.status.success() || stdout(&state).contains("\"stopped\"")
    });
    signal(&run, Signal::TERM);
    let mut text = Vec::new();
    assert_eq!(run.wait().unwrap().code(), Some(7));
    run.stdout.take().unwrap().read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("y\ny\n"), "{:?}", text.get(..40));
    eventually("all have ended", || {
        reap();
        processes().is_empty()
    });
    host.assert_clean();
}

#[test]
fn a_terminal_is_the_containers_own() {
    let Some(host) = enter() else { return };
    let config = ready_config(&host, "tty", "touch /ready/yes; exec sleep 1000");
    let mut main = host.run_command("tty", &config, &[]).spawn().unwrap();
    wait_ready(&host);
    let script = "tty; readlink /proc/self/fd/0; ls -l /dev/pts/0; echo typed: $(cat)";
    let mut exec = host.runtime(&["exec", "--tty", "tty", "sh", "-c", script]);
    let mut exec = exec
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    exec.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = exec.wait_with_output().unwrap();
    let text = stdout(&output);
    assert!(
        text.matches("/dev/pts/0\n").count() >= 2,
        "{}",
        both(&output)
    );
    assert!(
        text.contains("typed: hello") && text.contains(&UID.to_string()),
        "{}",
        both(&output)
    );
    // Its size is there before its program.
    let process = host.path("process.json");
    let size = json!({"terminal": true, "consoleSize": {"height": 33, "width": 77},
        "args": ["stty", "size"], "env": ["PATH=/bin"], "cwd": "/"});
    fs::write(&process, size.to_string()).unwrap();
    for _ in 0..10 {
        let words = ["exec", "--process", process.to_str().unwrap(), "tty"];
        assert_eq!(host.must(&words), "33 77\n");
    }
    main.kill().unwrap();
    main.wait().unwrap();
    host.must(&["delete", "--force", "tty"]);
    let mut config = host.config("tty", "tty; ls -l /dev/console; exit 4");
    config["process"]["terminal"] = json!(true);
    let output = host.run("tty2", &config);
    assert_eq!(output.status.code(), Some(4), "{}", both(&output));
    assert!(
        stdout(&output).starts_with("/dev/pts/0\ncrw"),
        "{}",
        both(&output)
    );
    metactl_runtime::cleanup(&host.root(), "tty").unwrap();
    eventually("all have ended", || {
        reap();
        processes().is_empty()
    });
    host.assert_clean();
}
