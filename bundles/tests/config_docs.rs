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
