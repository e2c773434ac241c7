//! Any text as up to four layers of configuration, the way up to the model: parsed, merged, names
//! replaced, checked, printed. Nothing of it may panic, hang or take memory out of proportion, and
//! what is printed is read back as it was. It touches nothing of the system.
//!
//! Lines of `===` stand between the layers: app, site, server, local.

#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use metactl_bundles::diagnostics::Collector;
use metactl_bundles::ini::{self, Content};
use metactl_bundles::layers::{Config, LayerKind, Source, render};
use metactl_bundles::model;

const LAYERS: [LayerKind; 4] = [
    LayerKind::App,
    LayerKind::Site,
    LayerKind::Server,
    LayerKind::Local,
];

fn sources(text: &str) -> Vec<Source> {
    let layers = LAYERS.into_iter().zip(text.splitn(4, "\n===\n"));
    layers
        .map(|(layer, text)| Source::new(layer, PathBuf::from(layer.name()), text.to_owned()))
        .collect()
}

/// Every value that was read is written as it is read, where it can be written at all.
fn read_back(text: &str) {
    let document = ini::parse(Path::new("f"), text, &mut Collector::default());
    for entry in document.sections.iter().flat_map(|section| &section.entries) {
        let Content::Value(value) = &entry.content else {
            continue;
        };
        let Some(line) = ini::write_entry(&entry.key, &value.text) else {
            continue;
        };
        let mut out = Collector::default();
        let again = ini::parse(Path::new("f"), &format!("[x]\n{line}"), &mut out);
        assert_eq!(out.errors(), 0, "{line:?}");
        let entries: Vec<_> = again.sections.iter().flat_map(|s| &s.entries).collect();
        assert!(
            matches!(entries.as_slice(), [one] if one.key == entry.key
                && matches!(&one.content, Content::Value(same) if same.text == value.text)),
            "{line:?}"
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let sources = sources(text);
    for source in &sources {
        read_back(&source.text);
    }
    match model::load(sources.clone(), "fuzz") {
        Ok((config, app)) => {
            let rows = config.rows(None);
            drop(render(&rows, true));
            for request in config.requests() {
                let told = ini::parse(Path::new("f"), &request.grant, &mut Collector::default());
                assert!(told.sections.len() <= 1, "{}", request.grant);
            }
            drop(app);
        }
        // What people read of it.
        Err(report) => {
            let told = report.to_string();
            assert!(!told.contains('\u{1b}'), "a terminal would obey");
        }
    }
    if let Err(report) = Config::check(sources) {
        drop(report.to_string());
    }
});
