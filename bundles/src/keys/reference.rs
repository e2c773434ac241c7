//! The reference of all keys, as text: for `docs/configuration.md` and for a terminal.

use std::fmt::Write as _;

use super::{KEYS, Key, SECTIONS};

/// The line in `docs/configuration.md` behind which the generated part begins.
pub const BEGIN: &str =
    "<!-- keys: begin (generated from the table in bundles/src/keys/table.rs) -->";
/// The line where it ends.
pub const END: &str = "<!-- keys: end -->";

/// Every section with a table of its keys, in Markdown.
pub fn markdown() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let _ = writeln!(out, "\n### `[{}]`\n\n{}\n", section.name, section.doc);
        out.push_str(
            "| key | value | default | who | meaning |\n| --- | --- | --- | --- | --- |\n",
        );
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            let default = key
                .default
                .map_or(String::new(), |text| format!("`{text}`"));
            let _ = writeln!(
                out,
                "| {} | {} | {default} | {} | {} |",
                name(key),
                key.kind.describe(),
                key.grant.describe(),
                meaning(key)
            );
        }
    }
    out
}

fn name(key: &Key) -> String {
    let name = match key.name {
        "*" => "*any*".to_owned(),
        name => format!("`{name}`"),
    };
    match key.alias {
        Some(alias) => format!("{name}, `{alias}`"),
        None => name,
    }
}

fn meaning(key: &Key) -> String {
    if key.platforms.is_empty() {
        return key.doc.to_owned();
    }
    let platforms: Vec<&str> = key
        .platforms
        .iter()
        .map(|name| {
            if *name == "jetty" {
                "every jetty"
            } else {
                name
            }
        })
        .collect();
    format!("{} *Platforms: {}.*", key.doc, platforms.join(", "))
}

/// The keys as lines for a terminal; with `word`, only those whose section, name or sentence has it.
pub fn lines(word: Option<&str>) -> Vec<String> {
    let has = |key: &&Key| match word {
        None => true,
        Some(word) => [key.section, key.name, key.doc]
            .iter()
            .any(|text| text.contains(word)),
    };
    let line = |key: &Key| {
        let default = key
            .default
            .map_or(String::new(), |text| format!(" (default: {text})"));
        let name = if key.name == "*" { "NAME" } else { key.name };
        format!(
            "[{}] {name} = {}{default}\n    {}",
            key.section,
            key.kind.describe(),
            key.doc
        )
    };
    KEYS.iter().filter(has).map(line).collect()
}
