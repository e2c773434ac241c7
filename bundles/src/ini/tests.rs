use super::*;

fn parsed(text: &str) -> Document {
    let mut out = Collector::default();
    let document = parse(Path::new("f"), text, &mut out);
    out.finish().expect("no faults");
    document
}

fn faults(text: &str) -> String {
    let mut out = Collector::default();
    parse(Path::new("f"), text, &mut out);
    out.finish().expect_err("faults").to_string()
}

fn value(document: &Document, section: usize, entry: usize) -> &Text {
    match &document.sections[section].entries[entry].content {
        Content::Value(text) => text,
        Content::Unset => panic!("unset"),
    }
}

#[test]
fn the_language() {
    let d = parsed(
        "\n# c\n[a.b]\nkey with spaces.x = v = w \r\n; c\n[c]\nk=\n  one\n # c\n\ttwo\n\n[a.b]\nz =\nunset q r\nunset *\n",
    );
    assert_eq!(d.sections.len(), 2);
    assert_eq!(d.sections[0].name, "a.b");
    assert_eq!(d.sections[0].entries[0].key, "key with spaces.x");
    assert_eq!(value(&d, 0, 0).text, "v = w");
    assert_eq!(
        value(&d, 0, 0).first_line(),
        Span {
            line: 4,
            start: 20,
            len: 5
        }
    );
    assert_eq!(value(&d, 0, 1).text, "");
    assert_eq!(d.sections[0].entries[2].content, Content::Unset);
    assert_eq!(d.sections[0].entries[2].key, "q r");
    assert!(d.sections[0].unset_all.is_some());
    let two = value(&d, 1, 0);
    assert_eq!(two.text, "one\ntwo");
    assert_eq!(
        two.span(4..7),
        Span {
            line: 10,
            start: 1,
            len: 3
        }
    );
    assert_eq!(
        two.span(1..7),
        Span {
            line: 8,
            start: 3,
            len: 2
        }
    );
}

#[test]
fn every_fault_is_told_with_its_place() {
    let text = faults(
        "k = v\n[a\n[]\n[a] x\n[b..c]\n[ok]\nnothing\n= v\nk = 1\nk = 2\nunset k = 3\nn = \0\n[x y]\n",
    );
    for expected in [
        "key outside of a section",
        "f:1:1",
        "without ]",
        "it is empty",
        "text after a section header",
        "f:4:5",
        "an empty part",
        "line without `=`",
        "`=` without a key",
        "stands twice in [ok]",
        "f:10:1",
        "`unset` takes no value",
        "NUL byte",
        "f:12:5",
        "` ` in [x y]",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
}

#[test]
fn an_indented_line_needs_a_value_to_continue() {
    assert!(faults("[a]\n  k = v\n").contains("continues no value"));
    assert!(faults("[a]\nk = v\n\n  w\n").contains("continues no value"));
}

#[test]
fn an_indented_header_is_a_warning() {
    let mut out = Collector::default();
    parse(
        Path::new("f"),
        "[a]\nk = v\n  [daemon.b]\n  [2001:db8::1]\n",
        &mut out,
    );
    assert_eq!(out.finish().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    assert_eq!(
        write_entry("a b", "c\nd").as_deref(),
        Some("a b = c\n    d\n")
    );
    for (key, value) in [
        ("", "x"),
        ("a=b", "x"),
        ("[a", "x"),
        ("a", " x"),
        ("a", "x\n\ny"),
        ("a", "x\n# y"),
        ("unset a", "x"),
    ] {
        assert_eq!(write_entry(key, value), None, "{key} {value}");
    }
}
