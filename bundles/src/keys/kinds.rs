//! The types of values: how each is described and checked.

use super::{suggest, values};
use crate::{health, network, platforms, secrets, smf};

/// What a value has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// A value of the environment: anything up to 128 KiB.
    Variable,
    /// A secret, or where it is: `file:/etc/metactl/secrets/db`.
    Secret,
    /// The name of a secret.
    SecretName,
    /// A command for `/bin/sh`.
    Shell,
    /// Argument words, split like a shell does, without its other features.
    Words,
    /// A name that becomes the name of a file.
    Name,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A platform.
    Platform,
    /// Names of daemons.
    Daemons,
    /// Where a daemon listens: `8080`, `127.0.0.1:80`, `[::1]:80`.
    Sockets,
    /// A setting of a unit of systemd.
    UnitSetting,
    /// A property of SMF: `count: 8`.
    SmfProperty,
    /// What a service of SMF depends on.
    SmfDependency,
    /// A project or pool of resources of Solaris.
    Project,
    /// Bytes: `256m`, `1.5g`.
    Size,
    /// Bytes, or `unlimited`.
    SizeOrUnlimited,
    /// Bytes as `java -Xmx` takes them: `256m`.
    HeapSize,
    /// A whole number from 1.
    Count,
    /// A whole number from 1, or `unlimited`.
    CountOrUnlimited,
    /// Processors: `0.5`, `2`.
    Cpu,
    /// A time: `30s`, `1h30m`.
    Duration,
    /// A TCP port.
    Port,
    /// A signal: `TERM`, `SIGTERM`, `15`.
    Signal,
    /// IP addresses.
    Addresses,
    /// An IPv4 prefix with room for addresses.
    Pool,
    /// An IPv6 prefix of unique local addresses.
    Pool6,
    /// Destinations of an accept list.
    Destinations,
    /// Ports of the server that lead to the instance.
    Published,
    /// The same for what comes in: who it is must be known beforehand.
    Sources,
    /// A path from the root.
    AbsolutePath,
    /// A path below a folder, without `..`.
    RelativePath,
    /// What `git` fetches from.
    Repository,
    /// A tag, branch or commit.
    Tag,
    /// The path of a URL.
    UrlPath,
    /// Statuses of HTTP.
    Statuses,
    /// An existing account.
    Account,
    /// Addresses of mail.
    Mail,
    /// Accounts, and groups with an `@`.
    Persons,
    /// Capabilities: `CAP_NET_RAW`.
    Capabilities,
    /// A line of `[crontab]`.
    Cron,
    /// The name of a time zone.
    TimeZone,
    /// A line of `[sandbox.mounts]`.
    Mount,
    /// `first-last` of uids.
    UidRange,
    /// Names of network interfaces.
    Interfaces,
    /// A domain: `apps.example.org`.
    Domain,
    /// Domains, or `none`.
    Domains,
    /// One label of a domain.
    Label,
    /// Addresses of name servers, with their ports.
    NameServers,
}

impl Kind {
    /// A word or two for the reference and messages.
    pub fn describe(self) -> String {
        match self {
            Kind::Text | Kind::Variable => "text".to_owned(),
            Kind::Secret => "secret or `file:/PATH`".to_owned(),
            Kind::SecretName => "name of a secret".to_owned(),
            Kind::Shell => "shell command".to_owned(),
            Kind::Words => "words".to_owned(),
            Kind::Name => "name".to_owned(),
            Kind::Choice(words) => format!("`{}`", words.join("`, `")),
            Kind::Platform => "platform".to_owned(),
            Kind::Daemons => "names of daemons".to_owned(),
            Kind::Size => "size".to_owned(),
            Kind::SizeOrUnlimited => "size, `unlimited`".to_owned(),
            Kind::HeapSize => "heap size".to_owned(),
            Kind::Count => "number".to_owned(),
            Kind::CountOrUnlimited => "number, `unlimited`".to_owned(),
            Kind::Cpu => "processors".to_owned(),
            Kind::Duration => "duration".to_owned(),
            Kind::Port => "port".to_owned(),
            Kind::Signal => "signal".to_owned(),
            Kind::Addresses => "addresses".to_owned(),
            Kind::Pool => "IPv4 prefix".to_owned(),
            Kind::Pool6 => "IPv6 prefix".to_owned(),
            Kind::Destinations => "destinations".to_owned(),
            Kind::Published => "ports".to_owned(),
            Kind::Sources => "sources".to_owned(),
            Kind::AbsolutePath => "absolute path".to_owned(),
            Kind::RelativePath => "relative path".to_owned(),
            Kind::Repository => "repository".to_owned(),
            Kind::Tag => "tag".to_owned(),
            Kind::UrlPath => "path of a URL".to_owned(),
            Kind::Statuses => "statuses".to_owned(),
            Kind::Account => "account".to_owned(),
            Kind::Mail => "mail addresses".to_owned(),
            Kind::Persons => "accounts and `@groups`".to_owned(),
            Kind::Capabilities => "capabilities".to_owned(),
            Kind::Cron => "schedule and command".to_owned(),
            Kind::TimeZone => "time zone".to_owned(),
            Kind::Mount => "path and `ro` or `rw`".to_owned(),
            Kind::UidRange => "range of uids".to_owned(),
            Kind::Interfaces => "interfaces".to_owned(),
            Kind::Domain => "domain".to_owned(),
            Kind::Domains => "domains, `none`".to_owned(),
            Kind::Sockets => "ports, addresses with ports".to_owned(),
            Kind::UnitSetting => "text of one line".to_owned(),
            Kind::SmfProperty => "type and value".to_owned(),
            Kind::SmfDependency => "FMRIs".to_owned(),
            Kind::Project => "name or number".to_owned(),
            Kind::Label => "label".to_owned(),
            Kind::NameServers => "addresses of name servers".to_owned(),
        }
    }

    /// What a number of this type counts, and which units may stand behind it; nothing for what has
    /// none.
    pub fn unit(self) -> &'static str {
        match self {
            Kind::Size | Kind::SizeOrUnlimited => {
                "bytes; `k`, `m`, `g` or `t` behind the number, powers of 1024"
            }
            Kind::HeapSize => "bytes; a whole number and `k`, `m`, `g` or `t`, powers of 1024",
            Kind::Duration => "`ms`, `s`, `m`, `h` or `d` behind each number, also several",
            Kind::Cpu => "processors; also parts of one",
            Kind::Count | Kind::CountOrUnlimited => "a whole number from 1",
            Kind::Port => "1 to 65535",
            _ => "",
        }
    }

    /// A value of this type.
    pub fn example(self) -> &'static str {
        match self {
            Kind::Text | Kind::Variable => "some text",
            Kind::Shell => "make dist",
            Kind::Words => "bin/server --verbose",
            Kind::Name => "myapp",
            Kind::Choice(words) => words.first().copied().unwrap_or_default(),
            Kind::Platform => "jetty9",
            Kind::Daemons => "jobmanager",
            Kind::Size | Kind::SizeOrUnlimited => "1.5g",
            Kind::HeapSize => "256m",
            Kind::Count | Kind::CountOrUnlimited => "512",
            Kind::Cpu => "1.5",
            Kind::Duration => "1h30m",
            Kind::Port => "8080",
            Kind::Signal => "TERM",
            Kind::Addresses => "192.168.0.5",
            Kind::Pool => "10.77.0.0/16",
            Kind::Pool6 => "fd12:3456:789a::/64",
            Kind::Destinations => "mysql.example.org:3306",
            Kind::Published => "8080:80 53/udp 10.0.0.1:8000-8010",
            Kind::Sources => "10.1.1.0/24",
            Kind::AbsolutePath => "/opt/example",
            Kind::RelativePath => "target/dist",
            Kind::Repository => "https://git.example.org/myapp.git",
            Kind::Tag => "1.2.3",
            Kind::UrlPath => "/healthz",
            Kind::Statuses => "200-399",
            Kind::Account => "www-data",
            Kind::Mail => "operators@example.org",
            Kind::Persons => "@web alice",
            Kind::Secret => "file:/etc/metactl/secrets/db",
            Kind::SecretName => "db.password",
            Kind::Capabilities => "CAP_NET_RAW",
            Kind::Cron => "5 0 * * * curl http://localhost/housekeeping",
            Kind::TimeZone => "Europe/Berlin",
            Kind::Mount => "/srv/photos rw",
            Kind::UidRange => "66000-69999",
            Kind::Interfaces => "eth0 eth1",
            Kind::Domain => "apps.example.org",
            Kind::Domains => "0.168.192.in-addr.arpa",
            Kind::Sockets => "8080",
            Kind::UnitSetting => "5s",
            Kind::SmfProperty => "astring: site.manage.myapp",
            Kind::SmfDependency => "optional_all/none svc:/network/ldap/client:default",
            Kind::Project => "user.web",
            Kind::Label => "web1",
            Kind::NameServers => "192.168.0.53",
        }
    }

    /// The values that there are, when they can be listed.
    pub fn choices(self) -> Vec<&'static str> {
        match self {
            Kind::Choice(words) => words.to_vec(),
            Kind::Platform => platforms::names().to_vec(),
            Kind::SizeOrUnlimited | Kind::CountOrUnlimited => vec!["unlimited"],
            Kind::Domains => vec!["none"],
            _ => Vec::new(),
        }
    }

    /// Whether `text` is such a value.
    ///
    /// # Errors
    /// What is wrong and what would be right, as the end of a sentence: "must be ...".
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Kind::Text | Kind::Daemons => values::text(text).map(drop),
            Kind::Variable => values::variable(text),
            Kind::Secret => secrets::check(text),
            Kind::SecretName => values::name(text).map(drop),
            Kind::Shell => values::text(text).map(drop),
            Kind::Words => values::split_words(text)
                .map(drop)
                .map_err(|e| e.to_string()),
            Kind::Name => values::name(text).map(drop),
            Kind::Choice(words) => choice(text, words),
            Kind::Platform => choice(text, platforms::names()),
            Kind::Size => values::size(text).map(drop),
            Kind::SizeOrUnlimited | Kind::CountOrUnlimited if text == "unlimited" => Ok(()),
            Kind::SizeOrUnlimited => values::size(text).map(drop),
            Kind::HeapSize => values::heap_size(text).map(drop),
            Kind::Count | Kind::CountOrUnlimited => values::count(text).map(drop),
            Kind::Cpu => values::cpu_millis(text).map(drop),
            Kind::Duration => values::duration(text).map(drop),
            Kind::Port => values::port(text).map(drop),
            Kind::Signal => values::signal(text).map(drop),
            Kind::Addresses => values::addresses(text).map(drop),
            Kind::Pool => values::pool(text).map(drop),
            Kind::Pool6 => values::pool6(text).map(drop),
            Kind::Destinations => network::parse_entry("", text)
                .map(drop)
                .map_err(|error| error.to_string()),
            Kind::Published => network::parse_publish(text).map(drop),
            Kind::Sources => sources(text),
            Kind::AbsolutePath => values::absolute_path(text).map(drop),
            Kind::RelativePath => values::relative_path(text).map(drop),
            Kind::Repository => values::repository(text).map(drop),
            Kind::Tag => values::tag(text).map(drop),
            Kind::UrlPath => health::path(text).map(drop),
            Kind::Statuses => health::statuses(text).map(drop),
            Kind::Account => values::account(text).map(drop),
            Kind::Mail => values::mail_addresses(text).map(drop),
            Kind::Persons => values::persons(text).map(drop),
            Kind::Capabilities => values::capabilities(text).map(drop),
            Kind::Cron => values::cron(text).map(drop),
            Kind::TimeZone => values::time_zone(text).map(drop),
            Kind::Mount => values::mount(text).map(drop),
            Kind::UidRange => values::uid_range(text).map(drop),
            Kind::Interfaces => values::interfaces(text).map(drop),
            Kind::Domain => values::domain(text).map(drop),
            Kind::Domains => values::domains(text).map(drop),
            Kind::Sockets => values::sockets(text).map(drop),
            Kind::UnitSetting => values::unit_setting(text),
            Kind::SmfProperty => smf::property(text).map(drop),
            Kind::SmfDependency => smf::dependency(text).map(drop),
            Kind::Project => smf::project(text).map(drop),
            Kind::Label => values::label(text).map(drop),
            Kind::NameServers => values::name_servers(text).map(drop),
        }
    }

    /// Whether `name` may be the key of an open section whose values are of this kind.
    ///
    /// # Errors
    /// What is wrong with it: "must be ...".
    pub fn check_name(self, name: &str) -> Result<(), String> {
        match self {
            Kind::Variable | Kind::SecretName => values::variable_name(name),
            Kind::Secret => values::name(name).map(drop),
            Kind::Mount => values::absolute_path(name).map(drop),
            Kind::UnitSetting => values::unit_key(name),
            Kind::SmfProperty => smf::property_name(name).map(drop),
            Kind::SmfDependency => smf::dependency_name(name),
            _ => Ok(()),
        }
    }
}

fn choice(text: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&text) {
        return Ok(());
    }
    let known = words.join(", ");
    match suggest::nearest(text, words.iter().copied()) {
        Some(near) => Err(format!("must be one of {known}; did you mean `{near}`?")),
        None => Err(format!("must be one of {known}")),
    }
}
/// Sources of an accept list. Which addresses the names below a suffix have is known only when the
/// instance asks for one, and it asks for no name of who comes in.
fn sources(text: &str) -> Result<(), String> {
    let entries = network::parse_entry("", text).map_err(|error| error.to_string())?;
    let star = entries.iter().find_map(|entry| match &entry.peer {
        network::Peer::Suffix(suffix) => Some(suffix),
        _ => None,
    });
    match star {
        Some(suffix) => Err(format!(
            "must be a host name, address or prefix: what has a name below {suffix} cannot be known here"
        )),
        None => Ok(()),
    }
}
