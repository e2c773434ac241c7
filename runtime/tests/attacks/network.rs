//! Ways around a network namespace.

use std::net::TcpListener;

use serde_json::json;

use crate::common::{both, compile_c, enter, stdout};
use crate::{root_config, start, stop, with_descriptors};

/// Looks for sockets among its descriptors, connects out through each, and tells what it reached.
const AROUND: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int reached = 0, sockets = 0;
    for (int fd = 0; fd < 1024; fd++) {
        int type;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) continue;
        sockets++;
        struct sockaddr none = {.sa_family = AF_UNSPEC};
        connect(fd, &none, sizeof none);
        reached += connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    }
    int own = socket(AF_INET, SOCK_STREAM, 0);
    reached += connect(own, (struct sockaddr *)&to, sizeof to) == 0;
    fprintf(stderr, "sockets %d reached %d\n", sockets, reached);
    return 0;
}
"#;

/// A socket of the host's network that the caller left open walks around the network namespace:
/// `connect(AF_UNSPEC)` frees it, the next connect goes out through the host. None but 0, 1 and 2
/// come in; those are the caller's to choose.
#[test]
fn inherited_sockets_do_not_reach_the_container() {
    let Some(host) = enter() else { return };
    if compile_c(&host, "around", AROUND).is_none() {
        return;
    }
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
    let service = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = service.local_addr().unwrap().port().to_string();
    // bash opens a connection to it, and has the descriptor 11.
    let leak = format!("11<>/dev/tcp/127.0.0.1/{port} 12<>/dev/udp/127.0.0.1/{port}");
    let sleeper = "touch /tmp/ready; exec sleep 1000";
    for config in [
        host.config("net", sleeper),
        root_config(&host, "net", sleeper, crate::CAPABILITIES),
    ] {
        for init in ["false", "true"] {
            let mut run = config.clone();
            run["process"]["args"] = json!(["around", port]);
            run["annotations"] = json!({"org.metactl.init": init});
            let bundle = host.bundle("net", &run);
            let words = ["run", "--bundle", bundle.to_str().unwrap(), "net"];
            let output = with_descriptors(&host, &leak, &words).output().unwrap();
            let text = crate::common::stderr(&output);
            assert_eq!(text, "sockets 0 reached 0\n", "{}", both(&output));
        }
        let main = start(&host, "net", &config);
        let words = ["exec", "net", "around", &port];
        let output = with_descriptors(&host, &leak, &words).output().unwrap();
        let text = crate::common::stderr(&output);
        assert_eq!(text, "sockets 0 reached 0\n", "{}", both(&output));
        stop(&host, "net", main);
    }
    drop(service);
    host.assert_clean();
}

/// The namespaces of the runtime cannot be joined from inside: no descriptor of them is there, and
/// /proc shows no process of the host.
#[test]
fn no_process_of_the_host_is_in_sight() {
    let Some(host) = enter() else { return };
    let script = "ls -d /proc/[0-9]* | wc -l; ls -l /proc/self/fd | grep -c -E 'net:|pid:|mnt:'";
    let output = host.run(
        "sight",
        &root_config(&host, "sight", script, crate::CAPABILITIES),
    );
    let text = stdout(&output);
    let mut lines = text.lines();
    let processes: u32 = lines.next().unwrap().trim().parse().unwrap();
    assert!(processes <= 3, "{}", both(&output));
    assert_eq!(lines.next().unwrap().trim(), "0", "{}", both(&output));
    host.assert_clean();
}
