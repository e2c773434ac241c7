use super::*;

fn place(text: &str, marked: &str) -> Place {
    let start = text.find(marked).unwrap();
    Place::new(Path::new(".metactl"), 3, text, start..start + marked.len())
}

#[test]
fn an_error_shows_line_caret_and_hint() {
    let text = Diagnostic::error("unknown section [bulid]")
        .at(place("[bulid]", "bulid"))
        .label("not a section")
        .hint("did you mean [build]?")
        .to_string();
    assert!(text.contains(".metactl:3:2"), "{text}");
    assert!(text.contains("3 | [bulid]"), "{text}");
    assert!(text.contains("^^^^^ not a section"), "{text}");
    assert!(text.contains("help: did you mean [build]?"), "{text}");
}

#[test]
fn without_a_place_there_is_no_margin() {
    let text = Diagnostic::error("no section has a key `X`")
        .hint("a new one needs its section: env:X")
        .to_string();
    assert_eq!(
        text,
        "error: no section has a key `X`\nhelp: a new one needs its section: env:X"
    );
}

#[test]
fn long_lines_are_cut_around_the_mark() {
    let long = format!("{}BAD{}", "ä".repeat(5000), "x".repeat(5000));
    let place = place(&long, "BAD");
    assert_eq!(place.column, 5001);
    assert!(place.source.chars().count() <= EXCERPT + 2);
    assert_eq!(&place.source[place.mark.clone()], "BAD");
    let text = Diagnostic::error("x").at(place).to_string();
    assert!(
        text.lines().all(|line| line.chars().count() < 160),
        "{text}"
    );
}

#[test]
fn passwords_and_controls_are_not_shown() {
    let secret = place("DB_PASSWORD = hunter2%(X)", "%(X)");
    assert_eq!(secret.source, "DB_PASSWORD = ***%(X)");
    let text = "URL = http://me:hunter2@h/%(X) \u{1b}[31m";
    let place = place(text, "%(X)");
    assert_eq!(&place.source[place.mark.clone()], "%(X)");
    let shown = Diagnostic::error("a\u{1b}b").at(place).to_string();
    assert!(
        !shown.contains("hunter2") && !shown.contains('\u{1b}'),
        "{shown}"
    );
}

#[test]
fn a_span_beyond_the_line_is_cut() {
    let place = Place::new(Path::new("f"), 1, "äb", 1..99);
    assert_eq!((place.column, place.length), (1, 2));
}

#[test]
fn a_report_counts_what_it_does_not_keep() {
    let mut collector = Collector::default();
    for _ in 0..MAX_DIAGNOSTICS + 7 {
        collector.error(|| Diagnostic::error("x"));
    }
    let report = collector.finish().unwrap_err();
    assert_eq!(report.diagnostics().len(), MAX_DIAGNOSTICS);
    assert!(report.to_string().contains("7 more"));
}
