//! Properties of the language: whatever is written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use metactl_bundles::diagnostics::Collector;
use metactl_bundles::ini::{self, Content};
use metactl_bundles::interpolate;
use metactl_bundles::keys::{KEYS, Kind, values};
use metactl_bundles::layers::{Config, LayerKind, Source, render};
use metactl_bundles::{model, network, redact};
use proptest::prelude::*;

fn source(layer: LayerKind, text: &str) -> Source {
    Source::new(layer, PathBuf::from("f"), text.to_owned())
}

/// Text with the signs that mean something.
fn tricky() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "[env]",
        "[daemon.a]",
        "[a]",
        "[daemon.*]",
        "[firewall.out.accept]",
        "[crontab]",
        "[",
        "]",
        "=",
        " = ",
        "A",
        "B",
        "%(A)",
        "%(B)",
        "%",
        "%%",
        "%(",
        "\n",
        "\n",
        "\n",
        " ",
        "\t",
        "\r",
        "#",
        ";",
        "unset ",
        "*",
        "platform",
        "command",
        "jvm.jar",
        "exec",
        "ä",
        "\u{feff}",
        "\0",
        "'",
        "\"",
        "\\",
        "://u:p@h",
        "10.0.0.1/8",
        ":80,443",
    ]);
    prop::collection::vec(line, 0..60).prop_map(|parts| parts.concat())
}

/// A field of a schedule, mostly right.
fn field(first: u32, last: u32) -> impl Strategy<Value = String> {
    let number = || first..=last + 1;
    let part = prop_oneof![
        3 => number().prop_map(|n| n.to_string()),
        3 => Just("*".to_owned()),
        2 => (number(), number()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => prop::sample::select(vec!["mon", "SUN", "jan", "mon-fri", "Jan-mar"]).prop_map(str::to_owned),
    ];
    let stepped = (part, prop::option::of(1_u32..40)).prop_map(|(part, step)| match step {
        Some(step) if part.contains(['*', '-']) => format!("{part}/{step}"),
        _ => part,
    });
    prop::collection::vec(stepped, 1..3).prop_map(|parts| parts.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_the_language_panic(app in tricky(), local in tricky(), any in any::<String>()) {
        for text in [&app, &any] {
            let sources = vec![source(LayerKind::App, text), source(LayerKind::Local, &local)];
            match model::load(sources.clone(), "a") {
                Ok((config, _)) => { render(&config.rows(None), true); }
                Err(report) => { report.render(true); }
            }
            let _ = Config::check(sources);
        }
    }

    #[test]
    fn no_type_panics(text in ".{0,40}", words in tricky()) {
        for text in [&text, &words] {
            for key in KEYS.iter() {
                let _ = key.kind.check(text);
                let _ = key.kind.check_name(text);
            }
            let _ = network::parse_entry("n", text);
            let _ = interpolate::parts(text);
            prop_assert!(redact::password_ranges(text).is_sorted_by_key(|range| range.start));
            let once = redact::redact(text).into_owned();
            prop_assert_eq!(redact::redact(&once).into_owned(), once.clone());
        }
    }

    #[test]
    fn bytes_that_are_text_parse_with_spans_in_the_text(text in tricky()) {
        let document = ini::parse(Path::new("f"), &text, &mut Collector::default());
        let lines: Vec<&str> = text.split('\n').collect();
        for entry in document.sections.iter().flat_map(|section| &section.entries) {
            let line = lines[entry.span.line - 1];
            prop_assert_eq!(&line[entry.span.start..entry.span.start + entry.span.len], entry.key.as_str());
            if let Content::Value(value) = &entry.content {
                let span = value.first_line();
                let first = value.text.lines().next().unwrap_or("");
                prop_assert_eq!(&lines[span.line - 1][span.start..span.start + span.len], first);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        entries in prop::collection::btree_map("[a-zA-Z%:;#\\[\\]. ä-]{1,12}", "[ -~ä\n]{0,40}", 0..8)
    ) {
        let mut text = String::from("[crontab]\n");
        let mut expected = Vec::new();
        for (key, value) in entries {
            if let Some(written) = ini::write_entry(&key, &value) {
                text.push_str(&written);
                expected.push((key, value));
            }
        }
        let mut out = Collector::default();
        let document = ini::parse(Path::new("f"), &text, &mut out);
        prop_assert_eq!(out.errors(), 0, "{}", text);
        let read: Vec<(String, String)> = document.sections[0].entries.iter().map(|entry| {
            let Content::Value(value) = &entry.content else { panic!("unset in {text}") };
            (entry.key.to_string(), value.text.to_string())
        }).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn the_last_layer_that_says_a_key_wins(
        layers in prop::collection::vec(prop::collection::btree_map("[A-D]", "[a-z]{1,5}", 0..4), 4)
    ) {
        let kinds = [LayerKind::App, LayerKind::Site, LayerKind::Server, LayerKind::Local];
        let sources = kinds.iter().zip(&layers).map(|(kind, values)| {
            let lines: String = values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            source(*kind, &format!("[env]\n{lines}"))
        });
        // The order in which they are handed over does not matter.
        let config = Config::from_sources(sources.rev().collect()).unwrap();
        for key in ["A", "B", "C", "D"] {
            let said: Vec<(LayerKind, &str)> =
                kinds.iter().zip(&layers).filter_map(|(kind, values)| Some((*kind, values.get(key)?.as_str()))).collect();
            let value = config.get("env", key);
            prop_assert_eq!(value.map(|v| (v.origin.layer, v.text.as_str())), said.last().copied());
            if let Some(value) = value {
                let history: Vec<(LayerKind, &str)> =
                    value.overrides.iter().map(|(origin, text)| (origin.layer, text.as_str())).collect();
                prop_assert_eq!(history.as_slice(), &said[..said.len() - 1]);
            }
        }
    }

    #[test]
    fn a_value_with_spaces_stays_one_argument(value in "[a-z '\"\\\\]{0,20}") {
        let value = value.trim().to_owned();
        let text = format!("[env]\nV = {value}\n[daemon.a]\ncommand = run %(V) 'x %(V)'\n");
        let config = Config::from_sources(vec![source(LayerKind::App, &text)]).unwrap();
        let expected = vec!["run".to_owned(), value.clone(), format!("x {value}")];
        prop_assert_eq!(config.words("daemon.a", "command").unwrap(), expected);
    }

    #[test]
    fn sizes_and_durations_grow_with_their_numbers(number in 1_u64..4000) {
        for unit in ["k", "m", "g"] {
            let size = |number: String| values::size(&(number + unit)).unwrap();
            let smaller = size(number.to_string());
            prop_assert!(smaller < size((number + 1).to_string()));
            let half_more = size(number.to_string() + ".5");
            prop_assert!(smaller < half_more);
        }
        for unit in ["ms", "s", "m", "h"] {
            let time = |number: u64| values::duration(&(number.to_string() + unit)).unwrap();
            prop_assert!(time(number) < time(number + 1));
        }
        prop_assert!(Kind::Count.check(&number.to_string()).is_ok());
    }

    #[test]
    fn the_schedule_of_every_accepted_line_can_be_computed(
        fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)),
        word in prop::sample::select(vec!["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"]),
    ) {
        for line in [format!("{} {} {} {} {} x", fields.0, fields.1, fields.2, fields.3, fields.4), format!("{word} x")] {
            if let Ok((schedule, _)) = values::cron(&line) {
                // The other reader wants a star alone.
                if schedule.contains(",*") || schedule.contains("*,") || schedule.contains("/1,*") {
                    continue;
                }
                let parsed = croner::parser::CronParser::new().parse(&schedule);
                prop_assert!(parsed.is_ok(), "{}: {:?}", schedule, parsed.err());
            }
        }
    }
}
