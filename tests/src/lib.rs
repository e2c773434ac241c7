//! The harness of the end-to-end tests: a private host for every test.
//!
//! The tests (in `tests/`) run the built binaries as a person would, on a *host made of
//! namespaces*: the test executes itself again under `unshare` with its own mounts, network,
//! processes, host name and cgroups, and its own directories for metactl. So a test may do there
//! what it likes, several run side by side, and the machine itself is never changed. After each
//! test the harness compares the private host with what it was before: a mount, link, route,
//! nftables table, cgroup, process, sysctl or file too many fails the test.
//!
//! This crate imports nothing of the house: it knows metactl only by its command line and its files.
//!
//! # Where to begin reading
//!
//! | room | what it is for |
//! | --- | --- |
//! | [`host`] | [`on_host`]: a test's body in a private host; `private-host.sh` makes it |
//! | [`machine`] | what could be left behind, before and after |
//! | [`lan`] | further hosts, connected by a switch: clients, database servers |
//! | [`bind`] | a real name server among them, which takes updates |
//! | [`command`] | running commands with a time limit, and judging what came out |
//! | [`apps`] | git repositories made from `examples/` |
//! | [`hello`] | one of these at an address of its own, and whom it reaches |
//! | [`oci`] | bundles under other runtimes |
//! | [`engines`] | podman and containerd as clients of the runtime |
//! | [`servers`] | SSH and https, for git and Subversion |
//! | [`tree`] | a directory as it was, to compare with what it is |
//! | [`terminal`] | a command on a terminal of its own, for Ctrl-C |
//! | [`upstream`] | a real name server as one that the server asks |
//! | [`binaries`] | the binaries under test |
//! | [`needs`] | what a test needs of the machine; what is missing is a loud skip |
//!
//! A test that cannot run here prints `SKIP <test>: <reason>`, and appends that line to the file
//! that `METACTL_SKIPS` names. With `METACTL_NO_SKIP=1` it fails instead.

// A failed expectation of the harness is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![forbid(unsafe_code)]

pub mod apps;
pub mod binaries;
pub mod bind;
pub mod command;
pub mod engines;
pub mod hello;
pub mod host;
pub mod lan;
pub mod machine;
pub mod needs;
pub mod oci;
pub mod servers;
pub mod terminal;
pub mod tree;
pub mod upstream;

pub use host::{Host, on_host};

use std::time::{Duration, Instant};

/// Waits until `condition` gives a value, at most `limit`; then fails with `what` was waited for.
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
