//! `docs/keys.md` says what the table of keys says, and the samples of `docs/configuration.md` are right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use metactl_bundles::keys::reference::markdown;
use metactl_bundles::layers::{Config, LayerKind, Source};

/// `METACTL_UPDATE_DOCS=1 cargo test -p metactl-bundles --test config_docs` writes the reference again.
const UPDATE: &str = "METACTL_UPDATE_DOCS";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md")
}

#[test]
fn the_reference_is_that_of_the_table() {
    let path = docs().with_file_name("keys.md");
    let current = markdown();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(path, current).unwrap();
        return;
    }
    assert!(
        fs::read_to_string(path).unwrap() == current,
        "docs/keys.md is stale: {UPDATE}=1 cargo test -p metactl-bundles --test config_docs"
    );
}

#[test]
fn the_samples_of_the_page_are_right() {
    let text = fs::read_to_string(docs()).unwrap();
    let samples: Vec<&str> = text
        .split("```ini\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|sample| !sample.contains("[section.with.dots]"))
        .collect();
    assert!(samples.len() >= 5);
    for sample in samples {
        let path = PathBuf::from("docs/configuration.md");
        let source = Source::new(LayerKind::Local, path, sample.to_owned());
        Config::from_sources(vec![source]).unwrap_or_else(|report| panic!("{sample}\n{report}"));
    }
}

/// A `#` behind a value is part of the value: who copies such a line gets what nobody meant.
#[test]
fn no_sample_of_any_page_has_a_comment_behind_a_value() {
    let pages = fs::read_dir(docs().parent().unwrap()).unwrap();
    let mut pages: Vec<PathBuf> = pages.map(|entry| entry.unwrap().path()).collect();
    pages.push(docs().with_file_name("../README.md"));
    pages.retain(|path| path.extension().is_some_and(|end| end == "md"));
    assert!(pages.len() > 8, "{pages:?}");
    for path in pages {
        for (at, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let Some((key, value)) = line.split_once(" = ") else {
                continue;
            };
            let is_key = |c: char| c.is_ascii_alphanumeric() || "._-/ ".contains(c);
            let is_sample = !key.trim().is_empty() && key.chars().all(is_key);
            assert!(
                !(is_sample && value.contains("  # ")),
                "{}:{}: {line}",
                path.display(),
                at + 1
            );
        }
    }
}
