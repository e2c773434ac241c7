//! `docs/configuration.md` says what the table of keys says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use metactl_bundles::keys::reference::{BEGIN, END, markdown};
use metactl_bundles::layers::{Config, LayerKind, Source};

/// `METACTL_UPDATE_DOCS=1 cargo test -p metactl-bundles --test config_docs` writes the part again.
const UPDATE: &str = "METACTL_UPDATE_DOCS";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md")
}

#[test]
fn the_reference_is_that_of_the_table() {
    let text = fs::read_to_string(docs()).unwrap();
    let begin = text
        .find(BEGIN)
        .expect("the line before the generated part")
        + BEGIN.len();
    let end = text.find(END).expect("the line behind the generated part");
    let current = format!("{}\n{}{}", &text[..begin], markdown(), &text[end..]);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(docs(), current).unwrap();
        return;
    }
    assert!(
        text == current,
        "docs/configuration.md is stale: {UPDATE}=1 cargo test -p metactl-bundles --test config_docs"
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
        let source = Source {
            layer: LayerKind::Local,
            path,
            text: sample.to_owned(),
        };
        Config::from_sources(vec![source]).unwrap_or_else(|report| panic!("{sample}\n{report}"));
    }
}
