//! `[sandbox.*]` and `[firewall.*]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Builder;
use crate::app::{Daemon, HostMount, Net, Sandbox};
use crate::keys::values;
use crate::network::{Entry, Mode, Policy, Verdict, parse_entry, parse_publish};

impl Builder<'_> {
    pub(super) fn sandbox(&mut self, daemons: &BTreeMap<String, Daemon>) -> Sandbox {
        let net = self.net();
        let sandbox = Sandbox {
            rootfs: self.typed("sandbox", "rootfs", values::absolute_path),
            user: self
                .value("sandbox", "user")
                .map(|value| value.text.to_string()),
            limits: self.limits("sandbox.limits", ["memory", "pids", "cpu", "files"]),
            mounts: self.mounts(),
            capabilities: self
                .typed("sandbox", "capabilities", values::capabilities)
                .unwrap_or_default(),
            out: self.policy("firewall.out", Verdict::Reject),
            inbound: self.inbound(daemons, &net),
            net,
        };
        self.check_host_network(&sandbox);
        sandbox
    }

    fn mounts(&mut self) -> Vec<HostMount> {
        let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
        let mut mounts = Vec::new();
        for (key, value) in self.usable("sandbox.mounts") {
            let (Ok(target), Ok((source, writable))) =
                (values::absolute_path(key), values::mount(&value.text))
            else {
                continue;
            };
            if let Some(other) = seen.insert(target.clone(), key) {
                let message = format!("`{other}` and `{key}` are the same path inside");
                self.error(&value.origin, message, Some("keep one of them"));
            }
            mounts.push(HostMount {
                source,
                target,
                writable,
                origin: value.origin.clone(),
            });
        }
        mounts
    }

    fn net(&mut self) -> Net {
        let mode = self.value("sandbox.net", "mode");
        let ip = self.said("sandbox.net", "ip");
        let addresses = self
            .typed("sandbox.net", "ip", values::addresses)
            .unwrap_or_default();
        let parsed = match mode.map(|value| value.text.as_str()) {
            Some("routed") => Mode::Routed,
            Some("none") => Mode::None,
            Some("host") => Mode::Host,
            _ => Mode::Nat,
        };
        if let Some(mode) = mode {
            match (parsed, ip) {
                (Mode::Routed, None) if !self.partial => {
                    let hint =
                        "add `ip =` to [sandbox.net] of the local layer, or use `mode = nat`";
                    self.error(
                        &mode.origin,
                        "`mode = routed` needs an address".to_owned(),
                        Some(hint),
                    );
                }
                (Mode::Nat | Mode::None | Mode::Host, Some(ip)) => {
                    let message = format!(
                        "`ip` in [sandbox.net] has no use with `mode = {}`",
                        mode.text
                    );
                    self.error(
                        &ip.origin,
                        message,
                        Some("`mode = routed` gives the instance its own address"),
                    );
                }
                _ => {}
            }
        }
        let ip_origin = ip.map(|value| value.origin.clone());
        let publish = self
            .typed("sandbox.net", "publish", parse_publish)
            .unwrap_or_default();
        let publish_origin = self.said("sandbox.net", "publish");
        let publish_origin = publish_origin.map(|value| value.origin.clone());
        if let (Some(origin), false) = (&publish_origin, parsed == Mode::Nat) {
            let (mode, hint) = match parsed {
                Mode::Routed => (
                    "routed",
                    "every port of the instance's own address is reached already",
                ),
                Mode::Host => (
                    "host",
                    "`port =` of each daemon is a port of the server already",
                ),
                _ => (
                    "none",
                    "`mode = nat` gives the instance an address that ports can lead to",
                ),
            };
            let message = format!("`publish` in [sandbox.net] has no use with `mode = {mode}`");
            self.error(origin, message, Some(hint));
        }
        Net {
            mode: parsed,
            addresses,
            ip_origin,
            publish,
            publish_origin,
            apart: false,
        }
    }

    /// The policy of a section, with its lists.
    pub(super) fn policy(&mut self, section: &str, fallback: Verdict) -> Policy {
        let policy = match self
            .value(section, "policy")
            .map(|value| value.text.as_str())
        {
            Some("accept") => Verdict::Accept,
            Some("reject") => Verdict::Reject,
            Some("drop") => Verdict::Drop,
            _ => fallback,
        };
        Policy {
            policy,
            accept: self.entries(&[section, ".accept"].concat()),
            reject: self.entries(&[section, ".reject"].concat()),
        }
    }

    fn entries(&mut self, list: &str) -> Vec<Entry> {
        let lines = self.usable(list);
        let entries = lines.filter_map(|(name, value)| parse_entry(name, &value.text).ok());
        entries.flatten().collect()
    }

    /// The firewall is in the instance's own network. In the server's it could not be.
    fn check_host_network(&mut self, sandbox: &Sandbox) {
        if sandbox.net.mode != Mode::Host {
            return;
        }
        let Some(mode) = self.value("sandbox.net", "mode") else {
            return;
        };
        for (section, policy) in [
            ("firewall.out", &sandbox.out),
            ("firewall.in", &sandbox.inbound),
        ] {
            let message = format!("`mode = host` has no firewall: [{section}] cannot be enforced");
            if policy.policy != Verdict::Accept {
                let hint = format!(
                    "write `policy = accept` in [{section}] as well, to say that this is meant"
                );
                self.error(&mode.origin, message, Some(&hint));
            } else if !policy.reject.is_empty() {
                let hint =
                    format!("remove what [{section}.reject] lists (`unset *` in a higher layer)");
                self.error(&mode.origin, message, Some(&hint));
            }
        }
    }
}
