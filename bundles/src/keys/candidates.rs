//! What a half-typed section, key or value could become, for a shell's completion.

use super::{SECTIONS, SectionMeaning, find, rows, section};
use crate::layers::Config;

/// The sections that an instance has or could have; without its configuration those of the table.
pub fn sections(config: Option<&Config>) -> Vec<String> {
    let table = SECTIONS.iter().map(|spec| spec.name);
    let fixed = table.filter(|name| !name.contains('*') && *name != "server");
    let mut names: Vec<String> = fixed.map(str::to_owned).collect();
    let own = config.into_iter().flat_map(Config::sections);
    names.extend(own.map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

/// The keys of a section: those that are set, and those that there are for its platform.
pub fn keys(config: Option<&Config>, name: &str) -> Vec<String> {
    let daemon = format!("daemon.{name}");
    let has = |name: &str| config.is_some_and(|config| config.section(name).is_some());
    let name = if has(&daemon) { &daemon } else { name };
    let SectionMeaning::Known(spec) = section(name) else {
        return Vec::new();
    };
    let platform = config.and_then(|config| config.get(name, "platform"));
    let serves = |row: &&super::Key| platform.is_none_or(|value| row.serves(&value.text));
    let table = rows().filter(|row| row.section == spec && !row.name.contains('*'));
    let mut keys: Vec<String> = table
        .filter(serves)
        .map(|row| row.name.to_owned())
        .collect();
    let own = config.and_then(|config| config.section(name));
    keys.extend(own.into_iter().flatten().map(|(key, _)| key.to_owned()));
    keys.sort();
    keys.dedup();
    keys
}

/// The values that a key can have, when they can be listed.
pub fn values(name: &str, key: &str) -> Vec<&'static str> {
    let spec = match section(name) {
        SectionMeaning::Known(spec) => spec,
        _ => "daemon.*",
    };
    find(spec, key).map_or_else(Vec::new, |(row, _)| row.kind.choices())
}

/// Every key of the table as `SECTION:KEY`, and alone.
pub fn table() -> Vec<String> {
    let named = rows().filter(|row| !row.name.contains('*'));
    let mut words: Vec<String> = named
        .flat_map(|row| [row.name.to_owned(), format!("{}:{}", row.section, row.name)])
        .filter(|word| !word.contains('*'))
        .collect();
    words.sort();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::layers::{LayerKind, Source};

    #[test]
    fn what_is_set_and_what_could_be() {
        let source = Source::new(
            LayerKind::Local,
            PathBuf::from("x"),
            "[web]\nplatform = jvm\njvm.jar = x\n[env]\nDB_HOST = y\n".to_owned(),
        );
        let config = Config::from_sources(vec![source]).unwrap();
        let config = Some(&config);
        assert!(sections(config).contains(&"daemon.web".to_owned()));
        assert!(
            !sections(None)
                .iter()
                .any(|name| name.contains("daemon") || name == "server")
        );
        assert_eq!(keys(config, "env"), ["DB_HOST"]);
        let web = keys(config, "web");
        assert!(web.contains(&"jvm.heap.max".to_owned()));
        assert!(!web.contains(&"jetty.war".to_owned()) && !web.contains(&"command".to_owned()));
        assert_eq!(
            values("sandbox.net", "mode"),
            ["routed", "nat", "none", "host"]
        );
        assert!(values("web", "platform").contains(&"jetty9"));
        assert!(table().contains(&"sandbox.net:mode".to_owned()));
    }
}
