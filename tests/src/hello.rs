//! The instance `hello` of `examples/hello` at [`ADDRESS`], which says what comes of connections that it opens.

use std::time::Duration;

use crate::host::Host;
use crate::lan::Node;

/// Where it is.
pub const ADDRESS: &str = "10.20.0.5";

/// Deploys it with this local layer, and waits until it answers.
pub fn start(host: &Host, local: &str) {
    host.hello("hello", local);
    let page = format!("http://{ADDRESS}/");
    Node::server().get_when_up(&page, Duration::from_secs(15));
}

/// What it says of a connection to `to`.
pub fn connect(to: &str) -> String {
    let url = format!("http://{ADDRESS}/connect?to={to}");
    Node::server().get(&url).unwrap().body
}

/// It gets there.
#[track_caller]
pub fn reaches(to: &str) {
    let answer = connect(to);
    assert!(answer.starts_with("connected"), "{to}: {answer}");
}

/// It is refused, and at once, not after a timeout.
#[track_caller]
pub fn is_refused(to: &str) {
    let answer = connect(to);
    assert!(answer.contains("refused"), "{to}: {answer}");
    let time = answer.split(" ms").next().unwrap_or_default();
    let milliseconds = time.rsplit(' ').next().unwrap_or_default().parse::<u64>();
    assert!(milliseconds.is_ok_and(|took| took < 1000), "{to}: {answer}");
}

/// The command that runs a perl program in its sandbox.
pub fn perl(script: &str) -> [&str; 7] {
    let module = "-MIO::Socket::INET";
    ["hello", "exec", "--", "perl", module, "-e", script]
}
