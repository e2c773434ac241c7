//! What the configuration says to SMF itself (`[smf.*]`), as parts of a manifest (service_bundle(5)).

use std::collections::BTreeMap;

use metactl_bundles::smf::{Dependency, Property, Settings};

use super::xml::{Element, element};

/// The group of properties that svc.startd(8) reads of each service: of the daemons, beside what metactl says there.
pub(super) const STARTD: &str = "startd";

type Properties = BTreeMap<String, Property>;

/// What else the service of the instance depends on.
pub(super) fn dependency(name: &str, of: &Dependency) -> Element {
    let mut dependency = element("dependency")
        .with("name", name)
        .with("grouping", of.grouping.as_str())
        .with("restart_on", of.restart_on.as_str())
        .with("type", of.kind.as_str());
    for fmri in &of.fmris {
        dependency.push(element("service_fmri").with("value", fmri.as_str()));
    }
    dependency
}

/// A group of properties; its entry points inherit them.
pub(super) fn group(name: &str, properties: &Properties) -> Element {
    // What SMF itself reads is of this type (smf(7), "Property Groups").
    let kind = match name {
        "general" => "framework",
        _ => "application",
    };
    let mut group = element("property_group")
        .with("name", name)
        .with("type", kind);
    for (name, property) in properties {
        group.push(self::property(name, property));
    }
    group
}

/// The group `startd` of a daemon: `own` is metactl's, as name, type and value; what the configuration says wins.
pub(super) fn startd(own: &[(&str, &str, &str)], settings: &Settings) -> Element {
    let none = Properties::new();
    let said = settings.properties.get(STARTD).unwrap_or(&none);
    let mut group = element("property_group")
        .with("name", STARTD)
        .with("type", "framework");
    for (name, kind, value) in own {
        if !said.contains_key(*name) {
            group.push(single(name, kind, value));
        }
    }
    for (name, property) in said {
        group.push(self::property(name, property));
    }
    group
}

fn property(name: &str, of: &Property) -> Element {
    if let [value] = of.values.as_slice() {
        return single(name, &of.kind, value);
    }
    let mut list = element(list_of(&of.kind));
    for value in &of.values {
        list.push(element("value_node").with("value", value.as_str()));
    }
    element("property")
        .with("name", name)
        .with("type", of.kind.as_str())
        .containing(list)
}

fn single(name: &str, kind: &str, value: &str) -> Element {
    element("propval")
        .with("name", name)
        .with("type", kind)
        .with("value", value)
}

/// The element of a list of this type.
fn list_of(kind: &str) -> &'static str {
    match kind {
        "boolean" => "boolean_list",
        "count" => "count_list",
        "fmri" => "fmri_list",
        "host" => "host_list",
        "hostname" => "hostname_list",
        "integer" => "integer_list",
        "net_address" => "net_address_list",
        "net_address_v4" => "net_address_v4_list",
        "net_address_v6" => "net_address_v6_list",
        "opaque" => "opaque_list",
        "time" => "time_list",
        "uri" => "uri_list",
        "ustring" => "ustring_list",
        // The configuration has no other type than these and this.
        _ => "astring_list",
    }
}
