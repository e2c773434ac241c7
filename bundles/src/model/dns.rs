//! `[dns]`.

use super::Builder;
use crate::app::Dns;
use crate::keys::values;
use crate::layers::{LayerKind, Value};

impl Builder<'_> {
    /// Where the instance is registered; nothing without a zone.
    pub(super) fn dns(&mut self, instance: &str) -> Option<Dns> {
        let zone = self.value("dns", "zone")?;
        for key in ["server", "key.file"] {
            if self.said("dns", key).is_none() && !self.partial {
                let message = format!("`zone` in [dns] is of no use without `{key}`");
                let hint = match key {
                    "server" => "say which name server takes updates: server = 192.168.0.53",
                    _ => {
                        "make a key with tsig-keygen, and say where it is: key.file = /etc/metactl/dns.key"
                    }
                };
                self.error(&zone.origin, message, Some(hint));
            }
        }
        let name = self.typed("dns", "zone", values::domain)?;
        let servers = self.typed("dns", "server", values::name_servers);
        let key_file = self.typed("dns", "key.file", values::absolute_path);
        let ttl = self.typed("dns", "ttl", values::duration);
        let host = self.typed("dns", "host", values::label);
        let reverse = self.typed("dns", "reverse", values::domains);
        let trusted = |value: &&Value| value.origin.layer != LayerKind::App;
        let app = self.value("app", "name").filter(trusted);
        Some(Dns {
            zone: name,
            app: app.map_or(instance, |value| value.text.as_str()).to_owned(),
            servers: servers?,
            key_file: key_file?,
            host,
            // RFC 2181 section 8: 31 bits; durations are a year at most.
            ttl: ttl.map_or(60, |ttl| {
                u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX >> 1)
            }),
            reverse,
        })
    }
}
