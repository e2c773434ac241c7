//! What the units of an instance are called.

use std::fmt::Write;

/// The unit that answers for names, of all instances.
pub(super) const RESOLVER: &str = "metactl-resolver.service";

/// What looks after the networks and names of all instances, and when.
pub(super) const MEND: &str = "metactl-mend.service";
pub(super) const MEND_TIMER: &str = "metactl-mend.timer";

/// `metactl-<instance>-<entry>.service`
pub(super) fn service(instance: &str, entry: &str) -> String {
    format!("metactl-{instance}-{entry}.service")
}

/// `metactl-<instance>-<entry>.timer`
pub(super) fn timer(instance: &str, entry: &str) -> String {
    format!("metactl-{instance}-{entry}.timer")
}

/// `metactl-<instance>-<entry>.socket`
pub(super) fn socket(instance: &str, entry: &str) -> String {
    format!("metactl-{instance}-{entry}.socket")
}

/// `metactl-<instance>.target`
pub(super) fn target(instance: &str) -> String {
    format!("metactl-{instance}.target")
}

/// What the networks of instances begin with.
pub(super) const NETWORK: &str = "metactl-net@";

/// `metactl-net@<instance>.service`
pub(super) fn network(instance: &str) -> String {
    format!("{NETWORK}{instance}.service")
}

/// `metactl-<instance>.slice`. A dash in the name of a slice leads to the slice above (systemd.slice(5)), and the
/// limits of an instance are not those of another whose name begins alike: dashes of the name are escaped.
pub(super) fn slice(instance: &str) -> String {
    let mut escaped = String::new();
    for byte in instance.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => escaped.push(char::from(byte)),
            // Writing to a string cannot fail.
            other => write!(escaped, "\\x{other:02x}").unwrap_or_default(),
        }
    }
    format!("metactl-{escaped}.slice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_below_that_of_metactl_alone() {
        assert_eq!(slice("hello"), "metactl-hello.slice");
        assert_eq!(slice("my-app.2"), "metactl-my\\x2dapp\\x2e2.slice");
    }
}
