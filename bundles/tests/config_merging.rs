//! Properties of merging, writing and replacing names, for layers of any content.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use metactl_bundles::diagnostics::Collector;
use metactl_bundles::ini::{self, Content};
use metactl_bundles::interpolate::{Definition, FaultKind, Interpolator, MAX_LENGTH};
use metactl_bundles::layers::{Config, LayerKind, Source, render};
use metactl_bundles::text::Str;
use proptest::prelude::*;

/// What a layer says about a section: whether it takes everything away first, and then about keys:
/// `None` is `unset`.
#[derive(Debug, Clone, Default, PartialEq)]
struct Part {
    unset_all: bool,
    keys: BTreeMap<String, Option<String>>,
}

type Layer = BTreeMap<String, Part>;

fn part() -> impl Strategy<Value = Part> {
    let value = prop::option::weighted(0.8, "[a-z]{1,6}");
    (
        prop::bool::weighted(0.15),
        prop::collection::btree_map("[A-D]", value, 0..4),
    )
        .prop_map(|(unset_all, keys)| Part { unset_all, keys })
}

fn layer() -> impl Strategy<Value = Layer> {
    let section = prop::sample::select(vec!["env".to_owned(), "firewall.out.accept".to_owned()]);
    prop::collection::btree_map(section, part(), 0..3)
}

fn text(layer: &Layer) -> String {
    let mut text = String::new();
    for (section, part) in layer {
        text.push_str(&format!("[{section}]\n"));
        if part.unset_all {
            text.push_str("unset *\n");
        }
        for (key, value) in &part.keys {
            match value {
                Some(value) => text.push_str(&ini::write_entry(key, value).unwrap()),
                None => text.push_str(&format!("unset {key}\n")),
            }
        }
    }
    text
}

/// One layer that says what `low` and then `high` say.
fn combined(low: &Layer, high: &Layer) -> Layer {
    let mut both = low.clone();
    for (section, part) in high {
        let below = both.entry(section.clone()).or_default();
        if part.unset_all {
            *below = part.clone();
        } else {
            below.keys.extend(part.keys.clone());
        }
    }
    both
}

/// The effective values of layers, lowest first.
fn merged(layers: &[&Layer]) -> BTreeMap<(String, String), String> {
    let sources = layers.iter().enumerate().map(|(index, layer)| {
        let path = PathBuf::from(format!("{index}.conf"));
        Source::new(LayerKind::Site, path, text(layer))
    });
    let config = Config::from_sources(sources.collect()).unwrap();
    let mut values = BTreeMap::new();
    for section in ["env", "firewall.out.accept"] {
        for (key, value) in config.section(section).into_iter().flatten() {
            values.insert((section.to_owned(), key.to_owned()), value.text.to_string());
        }
    }
    values
}

/// A value made of letters and references.
fn value() -> impl Strategy<Value = Vec<Result<String, usize>>> {
    prop::collection::vec(
        prop_oneof!["[a-z]{0,3}".prop_map(Ok), (0_usize..8).prop_map(Err)],
        0..5,
    )
}

/// What `name` stands for, the plain way; `None` when it leads back to itself or to nothing.
fn expanded(
    values: &[Vec<Result<String, usize>>],
    name: usize,
    above: &mut Vec<usize>,
) -> Option<String> {
    if above.contains(&name) {
        return None;
    }
    above.push(name);
    let mut out = String::new();
    for part in values.get(name)? {
        match part {
            Ok(text) => out.push_str(text),
            Err(other) => out.push_str(&expanded(values, *other, above)?),
        }
    }
    above.pop();
    Some(out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_associative(a in layer(), b in layer(), c in layer()) {
        let one_by_one = merged(&[&a, &b, &c]);
        prop_assert_eq!(&merged(&[&combined(&a, &b), &c]), &one_by_one);
        prop_assert_eq!(&merged(&[&a, &combined(&b, &c)]), &one_by_one);
    }

    #[test]
    fn the_last_word_counts_also_when_it_takes_back(layers in prop::collection::vec(layer(), 1..5)) {
        let all: Vec<&Layer> = layers.iter().collect();
        let values = merged(&all);
        for section in ["env", "firewall.out.accept"] {
            for key in ["A", "B", "C", "D"] {
                let mut expected = None;
                for part in layers.iter().filter_map(|layer| layer.get(section)) {
                    expected = match part.keys.get(key) {
                        Some(said) => said.clone(),
                        None if part.unset_all => None,
                        None => expected,
                    };
                }
                let found = values.get(&(section.to_owned(), key.to_owned()));
                prop_assert_eq!(found, expected.as_ref(), "{}:{}", section, key);
            }
        }
    }

    #[test]
    fn an_empty_layer_changes_nothing(layers in prop::collection::vec(layer(), 1..4), at in 0_usize..4) {
        let mut all: Vec<&Layer> = layers.iter().collect();
        let before = merged(&all);
        let nothing = Layer::new();
        all.insert(at.min(all.len()), &nothing);
        prop_assert_eq!(merged(&all), before);
    }

    #[test]
    fn a_whole_document_is_read_back(layer in layer()) {
        let mut out = Collector::default();
        let document = ini::parse(Path::new("f"), &text(&layer), &mut out);
        prop_assert_eq!(out.errors(), 0);
        let mut read = Layer::new();
        for section in &document.sections {
            let part = read.entry(section.name.to_string()).or_default();
            part.unset_all |= section.unset_all.is_some();
            for entry in &section.entries {
                let value = match &entry.content {
                    Content::Value(value) => Some(value.text.to_string()),
                    Content::Unset => None,
                };
                prop_assert!(part.keys.insert(entry.key.to_string(), value).is_none());
            }
        }
        prop_assert_eq!(read, layer);
    }

    #[test]
    fn what_show_prints_is_the_same_configuration(layers in prop::collection::vec(layer(), 1..4)) {
        let sources = |texts: &[String]| texts.iter().map(|text| Source::new(LayerKind::Site, PathBuf::from("f"), text.clone())).collect();
        let texts: Vec<String> = layers.iter().map(text).collect();
        let config = Config::from_sources(sources(&texts)).unwrap();
        for origin in [false, true] {
            let shown = render(&config.rows(None), origin);
            let again = Config::from_sources(sources(std::slice::from_ref(&shown))).unwrap();
            prop_assert_eq!(render(&again.rows(None), false), render(&config.rows(None), false), "{}", shown);
        }
    }

    #[test]
    fn names_are_replaced_or_it_is_told_why_not(values in prop::collection::vec(value(), 1..7)) {
        let names: Vec<Str> = (0..8).map(|n| format!("N{n}").into()).collect();
        let raw: Vec<Str> = values.iter().map(|parts| parts.iter().map(|part| match part {
            Ok(text) => text.clone(),
            Err(other) => format!("%(N{other})"),
        }).collect::<String>().into()).collect();
        let definitions = names.iter().zip(&raw).map(|(name, raw)| {
            (name, Definition { raw, from_app: false, template: None })
        });
        let mut interpolator = Interpolator::new(definitions);
        let mut told = BTreeSet::new();
        for (index, name) in names.iter().enumerate().take(values.len()) {
            match (interpolator.name(name), expanded(&values, index, &mut Vec::new())) {
                (Ok(found), Some(expected)) => prop_assert_eq!(found.text.as_str(), expected.as_str()),
                (Err(fault), None) => {
                    // Every fault is told once, with a chain that begins here.
                    if let Some(fault) = fault {
                        prop_assert!(matches!(fault.kind, FaultKind::Cycle(_) | FaultKind::Unknown(_)));
                        prop_assert_eq!(fault.chain[0].name.as_deref(), Some(name.as_str()));
                        prop_assert!(fault.chain.len() <= names.len());
                        told.insert(format!("{:?}", fault.kind));
                    } else {
                        prop_assert!(!told.is_empty(), "failed in silence: {}", name);
                    }
                }
                (found, expected) => prop_assert!(false, "{}: {:?} and {:?}", name, found, expected),
            }
        }
    }

    #[test]
    fn no_value_grows_beyond_its_bound(times in 1_usize..9, depth in 1_usize..40, length in 1_usize..2000) {
        let names: Vec<Str> = (0..=depth).map(|n| format!("N{n}").into()).collect();
        let mut raw = vec![Str::from("x".repeat(length))];
        raw.extend((0..depth).map(|n| Str::from(format!("%(N{n})").repeat(times))));
        let definitions = names.iter().zip(&raw).map(|(name, raw)| {
            (name, Definition { raw, from_app: false, template: None })
        });
        let mut interpolator = Interpolator::new(definitions);
        for (n, name) in names.iter().enumerate() {
            let expected = times.checked_pow(n as u32).and_then(|count| count.checked_mul(length));
            match interpolator.name(name) {
                Ok(found) => {
                    prop_assert_eq!(Some(found.text.len()), expected);
                    prop_assert!(found.text.len() <= MAX_LENGTH);
                }
                Err(Some(fault)) => {
                    prop_assert!(matches!(fault.kind, FaultKind::TooLong | FaultKind::TooDeep));
                    let small = expected.is_some_and(|length| length <= MAX_LENGTH) && n <= 32;
                    prop_assert!(!small, "{} of {:?} bytes", name, expected);
                }
                Err(None) => {}
            }
        }
    }
}
