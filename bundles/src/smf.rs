//! What an administrator says to SMF besides (`[smf.*]`): properties, dependencies, and in which project and pool of
//! resources methods run. Names and values are those of svccfg(8), checked here, since a manifest with one that SMF does
//! not take would be refused as a whole.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::keys::values::split_words;

/// The types of properties (service_bundle(5), `property`).
pub const TYPES: [&str; 14] = [
    "astring",
    "boolean",
    "count",
    "fmri",
    "host",
    "hostname",
    "integer",
    "net_address",
    "net_address_v4",
    "net_address_v6",
    "opaque",
    "time",
    "uri",
    "ustring",
];
/// How many of the services of a dependency have to run (smf(7), "Dependencies").
const GROUPINGS: [&str; 4] = ["require_all", "require_any", "optional_all", "exclude_all"];
/// What happening to one of them restarts the service.
const RESTARTS: [&str; 4] = ["none", "error", "restart", "refresh"];
/// Groups of properties that are metactl's or SMF's own: what is said of them is said by other keys, or by nobody.
const TAKEN: [&str; 13] = [
    "dependents",
    "entrypoint",
    "filesystem",
    "general_ovr",
    "metactl",
    "method_context",
    "multi-user",
    "name-services",
    "network",
    "refresh",
    "release",
    "restarter",
    "restarter_actions",
];
/// The same, by how their names begin.
const TAKEN_BEGINNINGS: [&str; 4] = ["after-", "requires-", "start", "stop"];
/// Properties of groups that are open otherwise.
const TAKEN_PROPERTIES: [(&str, &str); 4] = [
    ("general", "enabled"),
    ("general", "restarter"),
    ("general", "single_instance"),
    ("startd", "duration"),
];
/// The longest name (`scf_limit(SCF_LIMIT_MAX_NAME_LENGTH)`).
const MAX_NAME: usize = 119;
/// The longest value (`scf_limit(SCF_LIMIT_MAX_VALUE_LENGTH)`).
const MAX_VALUE: usize = 4095;
/// The most values of a property, and services of a dependency.
const MOST: usize = 64;

type Parsed<T> = Result<T, String>;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The project that methods run in (project(5)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The pool of processors that methods run on (pooladm(8)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_pool: Option<String>,
    /// What else the services of the instance depend on, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dependencies: BTreeMap<String, Dependency>,
    /// Properties, by group and name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, BTreeMap<String, Property>>,
}

impl Settings {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Settings::default()
    }
}

/// The value of a property: one, or a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// One of [`TYPES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// At least one.
    pub values: Vec<String>,
}

/// What something depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// `require_all` and so on.
    pub grouping: String,
    /// `none`, `error`, `restart`, `refresh`.
    pub restart_on: String,
    /// `service`, or `path`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `svc:/...`, or `file://localhost/...`; at least one.
    pub fmris: Vec<String>,
}

/// `GROUP/NAME`, both parts.
pub fn property_name(name: &str) -> Parsed<(&str, &str)> {
    let parts = name.split_once('/').filter(|(_, name)| !name.contains('/'));
    let Some((group, property)) = parts else {
        return Err("must be GROUP/NAME, such as general/action_authorization".to_owned());
    };
    identifier(group)?;
    identifier(property)?;
    let begins = |beginning: &&str| group.starts_with(*beginning) && group != "startd";
    if TAKEN.contains(&group) || TAKEN_BEGINNINGS.iter().any(begins) {
        return Err(format!(
            "must not be of the group `{group}`, which metactl or SMF itself writes"
        ));
    }
    if TAKEN_PROPERTIES.contains(&(group, property)) {
        return Err(format!("must not be {name}, which metactl says itself"));
    }
    Ok((group, property))
}

/// The name of a dependency, which is that of a group of properties.
pub fn dependency_name(name: &str) -> Parsed<()> {
    identifier(name)?;
    let begins = |beginning: &&str| name.starts_with(*beginning);
    let is_taken = TAKEN.contains(&name) || TAKEN_BEGINNINGS.iter().any(begins);
    match is_taken || matches!(name, "general" | "startd") {
        true => Err(format!(
            "must not be `{name}`, which metactl or SMF itself writes"
        )),
        false => Ok(()),
    }
}

/// `TYPE: VALUE`, or `TYPE: (VALUE VALUE...)` with words as a shell has them.
pub fn property(text: &str) -> Parsed<Property> {
    let form = || {
        format!(
            "must be TYPE: VALUE, or TYPE: (VALUE VALUE...) for a list; the types are {}",
            TYPES.join(", ")
        )
    };
    let (kind, rest) = text.split_once(':').ok_or_else(form)?;
    let (kind, rest) = (kind.trim(), rest.trim());
    if !TYPES.contains(&kind) {
        return Err(form());
    }
    let inner = rest
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let values = match inner {
        Some(inner) => split_words(inner).map_err(|error| error.to_string())?,
        None => vec![rest.to_owned()],
    };
    if values.is_empty() || values.len() > MOST {
        return Err(format!("must have 1 to {MOST} values"));
    }
    for value in &values {
        check(kind, value)?;
    }
    Ok(Property {
        kind: kind.to_owned(),
        values,
    })
}

/// `[GROUPING[/RESTART_ON]] FMRI...`; without the first word all are required, and restart nothing.
pub fn dependency(text: &str) -> Parsed<Dependency> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let first = words.first().copied().unwrap_or_default();
    let (mut grouping, mut restart_on) = (GROUPINGS[0], RESTARTS[0]);
    if !first.contains(':') && !words.is_empty() {
        let (one, other) = first.split_once('/').unwrap_or((first, restart_on));
        let known = GROUPINGS.contains(&one) && RESTARTS.contains(&other);
        if !known {
            return Err(format!(
                "must begin with an FMRI, or with one of {}, and /{} behind it if wanted",
                GROUPINGS.join(", "),
                RESTARTS.join(", /")
            ));
        }
        (grouping, restart_on) = (one, other);
        words.remove(0);
    }
    let kind = match words.first() {
        Some(word) if word.starts_with("file:") => "path",
        _ => "service",
    };
    let is_one = |word: &&str| match kind {
        "path" => is_path(word),
        _ => is_service(word),
    };
    if words.is_empty() || words.len() > MOST || !words.iter().all(is_one) {
        return Err(
            "must name services (svc:/network/ldap/client:default), or files alone (file://localhost/etc/app)"
                .to_owned(),
        );
    }
    Ok(Dependency {
        grouping: grouping.to_owned(),
        restart_on: restart_on.to_owned(),
        kind: kind.to_owned(),
        fmris: words.into_iter().map(str::to_owned).collect(),
    })
}

/// A project or a pool: its name or number, or `:default` (smf_method(7)).
pub fn project(text: &str) -> Parsed<&str> {
    let name = text.strip_prefix(':').unwrap_or(text);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins
        && name.len() <= MAX_NAME
        && name.chars().all(good)
        && (name == text || text == ":default")
    {
        true => Ok(text),
        false => Err("must be a name or a number, or `:default`".to_owned()),
    }
}

fn identifier(name: &str) -> Parsed<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    match begins && name.len() <= MAX_NAME && name.chars().all(good) {
        true => Ok(()),
        false => Err(format!(
            "must have names of letters, digits, `_` and `-` that begin with a letter, {MAX_NAME} characters at most"
        )),
    }
}

/// Whether a value is of a type (`scf_value_set_from_string`, smf(7)).
fn check(kind: &str, value: &str) -> Parsed<()> {
    if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
        return Err(format!(
            "must have values of one line, {MAX_VALUE} bytes at most"
        ));
    }
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    let v4 = |text: &str| text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv4Net>().is_ok();
    let v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Net>().is_ok();
    let (fits, such_as) = match kind {
        "boolean" => (matches!(value, "true" | "false"), "`true` or `false`"),
        "count" => (
            is_digits(value) && value.parse::<u64>().is_ok(),
            "a number such as 8",
        ),
        "integer" => (value.parse::<i64>().is_ok(), "a number such as -8"),
        "time" => (is_time(value), "seconds such as 30 or 0.5"),
        "opaque" => (
            !value.is_empty()
                && value.len().is_multiple_of(2)
                && value.bytes().all(|b| b.is_ascii_hexdigit()),
            "pairs of hexadecimal digits",
        ),
        "hostname" => (is_host(value), "the name of a host"),
        "host" => (
            is_host(value) || value.parse::<IpAddr>().is_ok(),
            "the name or the address of a host",
        ),
        "net_address" => (is_address(value), "an address, or one with /PREFIX"),
        "net_address_v4" => (v4(value), "an IPv4 address, or one with /PREFIX"),
        "net_address_v6" => (v6(value), "an IPv6 address, or one with /PREFIX"),
        "fmri" => (
            is_service(value) || is_path(value),
            "an FMRI such as svc:/network/ldap/client:default",
        ),
        "uri" => (is_uri(value), "a URI such as https://example.org/"),
        // Text is text.
        _ => (true, ""),
    };
    match fits {
        true => Ok(()),
        false => Err(format!("must be {such_as}, for a {kind}")),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Seconds, and at most nine digits of parts of one.
fn is_time(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    is_digits(whole) && whole.len() <= 18 && is_digits(part) && part.len() <= 9
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.len() <= 63 && label.chars().all(good) && !label.starts_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// `svc:/site/x:default`, `svc:/site/x`, `lrc:/...` (smf(7), "FMRI").
fn is_service(text: &str) -> bool {
    let rest = text
        .strip_prefix("svc:/")
        .or_else(|| text.strip_prefix("lrc:/"));
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ',' | '.');
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(good)
    };
    rest.is_some_and(|rest| {
        let (service, instance) = rest.split_once(':').unwrap_or((rest, "default"));
        text.len() <= MAX_VALUE && service.split('/').all(is_name) && is_name(instance)
    })
}

/// `file://localhost/etc/app`
fn is_path(text: &str) -> bool {
    let path = text
        .strip_prefix("file://localhost")
        .or_else(|| text.strip_prefix("file://"));
    path.is_some_and(|path| path.starts_with('/') && text.len() <= MAX_VALUE)
}

fn is_uri(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(good)
            && !rest.is_empty()
            && !rest.contains(char::is_whitespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_names_of_their_own() {
        for good in [
            "general/action_authorization",
            "startd/ignore_error",
            "app/threads",
            "a-b/c_d",
        ] {
            assert!(property_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "threads",
            "a/b/c",
            "/x",
            "x/",
            "1a/b",
            "a.b/c",
            "a/b\"",
            "general/enabled",
            "startd/duration",
            "metactl/bundle",
            "restarter/state",
            "start/exec",
            "stop/timeout_seconds",
            "after-db/x",
            "network/entities",
        ] {
            assert!(property_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_of_their_type() {
        for good in [
            "astring: site.web.manage",
            "astring:x: y",
            "ustring: grüße (und so)",
            "count: 8",
            "integer: -8",
            "boolean: true",
            "time: 1.5",
            "opaque: 00ff",
            "hostname: db.example.org",
            "host: 10.0.0.1",
            "net_address: 10.0.0.0/8",
            "net_address_v6: 2001:db8::/32",
            "fmri: svc:/network/ldap/client:default",
            "uri: https://example.org/",
            "astring: (a \"b c\" 'd')",
        ] {
            assert!(property(good).is_ok(), "{good}: {:?}", property(good));
        }
        for bad in [
            "",
            "8",
            "string: x",
            "count: -1",
            "count: +1",
            "count:",
            "integer: x",
            "boolean: yes",
            "time: .5",
            "opaque: 0",
            "hostname: a b",
            "net_address_v4: ::1",
            "fmri: network/ldap",
            "uri: nothing",
            "count: ()",
            "count: (1 x)",
            "astring: a\nb",
            "astring: (a \"b)",
        ] {
            assert!(property(bad).is_err(), "{bad}");
        }
        let list = property("astring: (a \"b c\")").unwrap();
        assert_eq!(
            (list.kind.as_str(), list.values),
            ("astring", vec!["a".to_owned(), "b c".to_owned()])
        );
        assert!(property(&format!("astring: {}", "x".repeat(MAX_VALUE + 1))).is_err());
    }

    #[test]
    fn dependencies_are_on_services_or_files() {
        let ldap = dependency("svc:/network/ldap/client:default").unwrap();
        assert_eq!(
            (
                ldap.grouping.as_str(),
                ldap.restart_on.as_str(),
                ldap.kind.as_str()
            ),
            ("require_all", "none", "service")
        );
        let any = dependency("require_any/restart svc:/a/b svc:/c:d").unwrap();
        assert_eq!(
            (
                any.grouping.as_str(),
                any.restart_on.as_str(),
                any.fmris.len()
            ),
            ("require_any", "restart", 2)
        );
        assert_eq!(dependency("file://localhost/etc/x").unwrap().kind, "path");
        for bad in [
            "",
            "require_all",
            "all svc:/a:b",
            "require_all/always svc:/a:b",
            "svc:/a:b file://localhost/x",
            "svc:/",
            "svc:/a:b:c",
            "svc:/a<b",
            "http://x",
            "ldap",
        ] {
            assert!(dependency(bad).is_err(), "{bad}");
        }
        assert!(dependency_name("ldap").is_ok());
        for bad in [
            "network",
            "release",
            "requires-db",
            "startd",
            "general",
            "a b",
        ] {
            assert!(dependency_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn projects_have_names_or_numbers() {
        for good in ["user.web", "100", ":default", "pool_default"] {
            assert!(project(good).is_ok(), "{good}");
        }
        for bad in ["", ":", ":other", "a b", "a\"b", "-x"] {
            assert!(project(bad).is_err(), "{bad}");
        }
    }
}
