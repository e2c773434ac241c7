//! Facts of this server: `[server]` of `metactl.conf`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::diagnostics::{Collector, Diagnostic, Place, Report};
use crate::ini::{self, Content, Entry, Text};
use crate::keys::{self, values};
use crate::layers::{Trust, read_trusted};
use crate::paths::Paths;

/// What `metactl.conf` says about the server itself. Its other sections are a layer of every app's
/// configuration ([`LayerKind::Server`](crate::layers::LayerKind::Server)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `site`: the deployment environment, and so the folder of `sites/`.
    pub site: Option<String>,
    /// `pool`: where instances without an address of their own get one from.
    pub pool: Ipv4Net,
    /// `pool6`: where they get an IPv6 address from, too.
    pub pool6: Option<Ipv6Net>,
    /// `uid.range`: where instances get their uid from.
    pub uid_range: RangeInclusive<u32>,
    /// `uplink`: the interfaces towards other machines, with commas between them; when there is none, every one that
    /// has a route to a network.
    pub uplink: Option<String>,
    /// `nameservers`: for instances that may ask one; empty: those of the server.
    pub nameservers: Vec<IpAddr>,
    /// `service-manager`: who keeps instances running; `None`: whoever runs on this server.
    pub service_manager: Option<ServiceManager>,
}

/// A service manager that `metactl.conf` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManager {
    /// metactl's own supervisor.
    Standalone,
    /// systemd.
    Systemd,
    /// Upstart.
    Upstart,
    /// SMF of Solaris and illumos.
    Smf,
}

impl ServiceManager {
    /// The names of all of them.
    pub const NAMES: &[&str] = &["systemd", "upstart", "smf", "standalone"];

    /// The one of this name.
    pub fn named(name: &str) -> Option<ServiceManager> {
        match name {
            "systemd" => Some(ServiceManager::Systemd),
            "upstart" => Some(ServiceManager::Upstart),
            "smf" => Some(ServiceManager::Smf),
            "standalone" => Some(ServiceManager::Standalone),
            _ => None,
        }
    }
}

impl Default for Server {
    fn default() -> Server {
        Server {
            site: None,
            pool: Ipv4Net::new_assert([10, 77, 0, 0].into(), 16),
            pool6: None,
            uid_range: 66000..=69999,
            uplink: None,
            nameservers: Vec::new(),
            service_manager: None,
        }
    }
}

impl Server {
    /// Reads `metactl.conf`; without the file everything is as built in.
    ///
    /// # Errors
    /// Everything that is wrong in `[server]`, and what the parser cannot read in the file.
    pub fn read(paths: &Paths) -> Result<Server, Report> {
        let path = paths.server_conf();
        match read_trusted(&Trust::new(&paths.config), &path) {
            Ok(Some(text)) => Server::parse(&path, &text),
            Ok(None) => Ok(Server::default()),
            Err(diagnostic) => Err((*diagnostic).into()),
        }
    }

    /// The facts in `text`, the content of `file`.
    ///
    /// # Errors
    /// As [`Server::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Server, Report> {
        let mut out = Collector::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let document = ini::parse(file, text, &mut out);
        let mut server = Server::default();
        let sections = document
            .sections
            .into_iter()
            .filter(|section| section.name == "server");
        for entry in sections.flat_map(|section| section.entries) {
            let place = |span: ini::Span| {
                let line = text.split('\n').nth(span.line - 1).unwrap_or("");
                Place::new(file, span.line, line, ini::range(span))
            };
            if let Err((problem, span, hint)) = server.take(&entry) {
                out.error(|| {
                    let diagnostic = Diagnostic::error(problem).at(place(span));
                    hint.into_iter().fold(diagnostic, Diagnostic::hint)
                });
            }
        }
        out.finish()?;
        Ok(server)
    }

    fn take(&mut self, entry: &Entry) -> Result<(), (String, ini::Span, Option<String>)> {
        let Content::Value(Text { text, .. }) = &entry.content else {
            let hint = "there is no layer below; remove the line".to_owned();
            return Err((
                "`unset` has nothing to take away in [server]".to_owned(),
                entry.span,
                Some(hint),
            ));
        };
        let result = match entry.key.as_str() {
            "site" => values::name(text).map(|site| self.site = Some(site.to_owned())),
            "pool" => values::pool(text).map(|pool| self.pool = pool),
            "pool6" => values::pool6(text).map(|pool| self.pool6 = Some(pool)),
            "uid.range" => values::uid_range(text).map(|range| self.uid_range = range),
            "uplink" => values::interfaces(text).map(|names| self.uplink = Some(names.join(","))),
            "nameservers" => values::addresses(text).map(|addresses| self.nameservers = addresses),
            "service-manager" => match ServiceManager::named(text) {
                Some(found) => {
                    self.service_manager = Some(found);
                    Ok(())
                }
                None => Err(format!("is one of {}", ServiceManager::NAMES.join(", "))),
            },
            unknown => {
                let near = keys::suggest::nearest(unknown, keys::names_in("server"));
                let known: Vec<&str> = keys::names_in("server").collect();
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("keys of this section are {}", known.join(", ")),
                };
                return Err((
                    format!("unknown key `{unknown}` in [server]"),
                    entry.span,
                    Some(hint),
                ));
            }
        };
        let span = match &entry.content {
            Content::Value(value) => value.first_line(),
            Content::Unset => entry.span,
        };
        result.map_err(|problem| (format!("`{}` in [server] {problem}", entry.key), span, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Server, Report> {
        Server::parse(Path::new("metactl.conf"), text)
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let built_in = Server::default();
        for key in keys::KEYS.iter().filter(|key| key.section == "server") {
            if let Some(default) = key.default {
                let text = format!("[server]\n{} = {default}\n", key.name);
                assert_eq!(parse(&text).unwrap(), built_in);
            }
        }
    }

    #[test]
    fn facts_are_read_and_other_sections_left_alone() {
        let server = parse(
            "[server]\nsite = prod\npool = 10.9.0.0/24\nuid.range = 70000-70099\nuplink = eth1 eth2\nnameservers = 10.0.0.53\n[daemon.*]\njvm.home = /x\n",
        )
        .unwrap();
        assert_eq!(server.site.as_deref(), Some("prod"));
        assert_eq!(server.pool.to_string(), "10.9.0.0/24");
        assert_eq!(server.uid_range, 70000..=70099);
        assert_eq!(server.uplink.as_deref(), Some("eth1,eth2"));
        assert_eq!(server.nameservers.len(), 1);
    }

    #[test]
    fn faults_are_told_together() {
        let report =
            parse("[server]\nsite = ../x\npol = 10.0.0.0/8\nuid.range = 1-2\n").unwrap_err();
        let text = report.to_string();
        assert_eq!(report.diagnostics().len(), 3, "{text}");
        assert!(
            text.contains("metactl.conf:2:8") && text.contains("did you mean `pool`?"),
            "{text}"
        );
    }
}
