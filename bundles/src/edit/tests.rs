use proptest::prelude::*;

use super::*;

fn change(text: &str, section: &str, key: &str, wish: Wish<'_>) -> String {
    let edited = edit(Path::new("x.conf"), text, section, key, wish).unwrap();
    edited.text
}

fn tag(text: &str) -> String {
    change(text, "build", "tag", Wish::Say("1.2.4"))
}

#[test]
fn one_line_changes() {
    assert_eq!(tag(""), "[build]\ntag = 1.2.4\n");
    assert_eq!(
        tag("[env]\nA = 1\n"),
        "[env]\nA = 1\n\n[build]\ntag = 1.2.4\n"
    );
    assert_eq!(
        tag("# mine\n[build]\nrepo = x\n  y\n\n; end\n[env]\ntag = 7\n"),
        "# mine\n[build]\nrepo = x\n  y\ntag = 1.2.4\n\n; end\n[env]\ntag = 7\n"
    );
    assert_eq!(
        tag("[build]\n# which\ntag=1.2.3\n  x\nrepo = y"),
        "[build]\n# which\ntag=1.2.4\nrepo = y"
    );
    assert_eq!(
        tag("[build]\ntag\t=   1\nrepo = y"),
        "[build]\ntag\t=   1.2.4\nrepo = y"
    );
    assert_eq!(tag("[build]\n"), "[build]\ntag = 1.2.4\n");
    assert_eq!(tag("[build]"), "[build]\ntag = 1.2.4\n");
    assert_eq!(tag("[build]\nunset tag"), "[build]\ntag = 1.2.4");
    assert_eq!(tag("[build]\ntag =\n"), "[build]\ntag = 1.2.4\n");
    assert_eq!(
        tag("[build]\r\nrepo = x\r\n"),
        "[build]\r\nrepo = x\r\ntag = 1.2.4\r\n"
    );
    assert_eq!(tag("\u{feff}[build]\n"), "\u{feff}[build]\ntag = 1.2.4\n");
    // The section may stand twice; its end is its last line.
    assert_eq!(
        tag("[build]\nrepo = x\n[env]\nA = 1\n[build]\noutput = y\n[env]\n"),
        "[build]\nrepo = x\n[env]\nA = 1\n[build]\noutput = y\ntag = 1.2.4\n[env]\n"
    );
}

#[test]
fn comments_between_the_lines_of_a_value_stay() {
    assert_eq!(
        tag("[build]\ntag = a\n # why\n  b\n# next\nrepo = x\n"),
        "[build]\ntag = 1.2.4\n # why\n# next\nrepo = x\n"
    );
}

#[test]
fn keys_are_removed_and_taken_away() {
    let text = "[env]\n# a\nA = 1\n  2\n\nB = 2\n";
    assert_eq!(
        change(text, "env", "A", Wish::Nothing),
        "[env]\n# a\n\nB = 2\n"
    );
    assert_eq!(
        change(text, "env", "A", Wish::Unset),
        "[env]\n# a\nunset A\n\nB = 2\n"
    );
    assert_eq!(
        change(text, "env", "C", Wish::Unset),
        "[env]\n# a\nA = 1\n  2\n\nB = 2\nunset C\n"
    );
    assert_eq!(change(text, "env", "C", Wish::Nothing), text);
    assert_eq!(change("", "env", "C", Wish::Nothing), "");
    assert_eq!(
        change("[env]\nunset C\n", "env", "C", Wish::Nothing),
        "[env]\n"
    );
}

#[test]
fn other_spellings_are_found_and_kept() {
    let say =
        |text: &str, key: &str, value: &str| change(text, "daemon.web", key, Wish::Say(value));
    assert_eq!(
        say("[web]\ncontainer = jetty8\n", "platform", "jetty9"),
        "[web]\ncontainer = jetty9\n"
    );
    assert_eq!(
        say("[daemon.web]\njava.heap.max = 1g\n", "jvm.heap.max", "2g"),
        "[daemon.web]\njava.heap.max = 2g\n"
    );
    assert_eq!(
        say("[web]\ncontainer = jetty8\n", "port", "81"),
        "[web]\ncontainer = jetty8\nport = 81\n"
    );
}

#[test]
fn the_line_and_what_stood_there_are_told() {
    let text = "[env]\nA = 1\n  2\n\n[build]\nunset tag\n";
    let of = |section, key, wish| edit(Path::new("x"), text, section, key, wish).unwrap();
    let edited = of("env", "A", Wish::Say("3"));
    assert_eq!(
        (edited.line, edited.before),
        (2, Some(Said::Value("1\n2".to_owned())))
    );
    let edited = of("build", "tag", Wish::Nothing);
    assert_eq!((edited.line, edited.before), (6, Some(Said::Unset)));
    let edited = of("env", "B", Wish::Say("x"));
    assert_eq!((edited.line, edited.before), (4, None));
    let edited = of("app", "name", Wish::Say("x"));
    assert_eq!((edited.line, edited.before), (9, None));
}

#[test]
fn what_no_line_can_say_is_refused() {
    let refused = |key: &str, value: &str| {
        let error = edit(Path::new("x"), "[env]\n", "env", key, Wish::Say(value)).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    };
    assert!(refused("A", " x").contains("space"));
    assert!(refused("A", "a\n\nb").contains("empty line"));
    assert!(refused("A", "\nb").contains("empty line"));
    assert!(refused("A", "a\n# b").contains("comment"));
    assert!(refused("A", "a\u{1b}[2J").contains("control"));
    assert!(refused("A", "a\rb").contains("control"));
    for key in ["", " A", "A=B", "[A", "#A", "unset A", &"x".repeat(300)] {
        assert!(refused(key, "1").contains("as a key"), "{key}");
    }
}

#[test]
fn a_file_with_faults_is_left_alone() {
    for text in [
        "A = 1\n",
        "[env]\nA = 1\nA = 2\n",
        "[env\nA = 1\n",
        "[env]\n  x\n",
    ] {
        let error = edit(Path::new("x"), text, "env", "A", Wish::Say("3")).unwrap_err();
        assert!(matches!(error, EditError::Faulty(_)), "{text}");
    }
    // The indented line belongs to nothing now; without the line above it would.
    let text = "[env]\nB = 1\nunset A\n  x\n";
    let edited = edit(Path::new("x"), text, "env", "A", Wish::Nothing).unwrap();
    assert_eq!(edited.text, "[env]\nB = 1\n");
}

/// Lines of files, good and odd.
fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[#;] ?[a-z=\\[]{0,6}",
        "\\[(env|build|daemon\\.web|web|crontab)\\]",
        "[A-C] ?= ?[a-z ]{0,6}[a-z]?",
        "(container|platform|port|jvm\\.heap\\.max|java\\.heap\\.max) = [a-z0-9]{1,4}",
        "unset [A-C*]",
        "[ \t]{1,3}[a-z#=\\[\\]]{1,6}",
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    let end = prop_oneof![Just("\n"), Just("\r\n")];
    (prop::collection::vec(any_line(), 0..14), end, any::<bool>()).prop_map(
        |(lines, end, closed)| {
            let mut text = lines.join(end);
            if closed {
                text.push_str(end);
            }
            text
        },
    )
}

fn any_target() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        Just(("env", "A")),
        Just(("env", "B")),
        Just(("crontab", "C")),
        Just(("daemon.web", "platform")),
        Just(("daemon.web", "jvm.heap.max")),
        Just(("build", "tag")),
    ]
}

/// Values with lines, comments, headers and spaces in them; many cannot be written.
fn any_value() -> impl Strategy<Value = String> {
    "[a-c =#;\\[\\]\t]{0,8}(\n[a-c =#;\\[\\]]{0,5}){0,2}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_can_be_read_back_and_the_rest_stays(
        text in any_text(),
        (section, key) in any_target(),
        value in any_value(),
        kind in 0..3,
    ) {
        // One key under both of its names in one section is no valid file.
        prop_assume!(!(text.contains("java.heap.max") && text.contains("jvm.heap.max")));
        prop_assume!(!(text.contains("container") && text.contains("platform")));
        // Nor is one key in one section under both names of that.
        prop_assume!(!says_twice(&text));
        let wish = match kind {
            0 => Wish::Say(&value),
            1 => Wish::Unset,
            _ => Wish::Nothing,
        };
        let path = Path::new("x.conf");
        match edit(path, &text, section, key, wish) {
            Ok(edited) => {
                let now = said(path, &edited.text, section, key).unwrap();
                match wish {
                    Wish::Say(value) => prop_assert_eq!(now, Some(Said::Value(value.to_owned()))),
                    Wish::Unset => prop_assert_eq!(now, Some(Said::Unset)),
                    Wish::Nothing => prop_assert_eq!(now, None),
                }
                prop_assert!(is_only_change(&text, &edited.text), "{:?}\n{:?}", text, edited.text);
                // Back to nothing, everything else still reads the same.
                let back = edit(path, &edited.text, section, key, Wish::Nothing).unwrap();
                let original = parse(path, &text).unwrap();
                let after = parse(path, &back.text).unwrap();
                prop_assert_eq!(rest(&original, section, key), rest(&after, section, key));
            }
            Err(EditError::Faulty(_)) => prop_assert!(parse(path, &text).is_err()),
            Err(EditError::Value { .. }) => {
                prop_assert!(kind == 0 && ini::write_entry("x", &value).is_none());
            }
            Err(error) => prop_assert!(false, "{error} of {text:?}"),
        }
    }
}

/// Whether a text says a key of one section twice, `[web]` being `[daemon.web]`.
fn says_twice(text: &str) -> bool {
    let Ok(document) = parse(Path::new("x.conf"), text) else {
        return false;
    };
    let mut seen = HashSet::new();
    let all = statements(&document);
    all.into_iter()
        .any(|(section, key, _)| !seen.insert((section, key)))
}

/// Whether `after` is `before` with one place changed: the lines that begin and end both are all of
/// `before` but for one run of lines, in which no comment is lost.
fn is_only_change(before: &str, after: &str) -> bool {
    let lines =
        |text: &str| -> Vec<String> { text.split_inclusive('\n').map(str::to_owned).collect() };
    let (old, new) = (lines(before), lines(after));
    // A last line without end gets one when something is written behind it.
    let same =
        |a: &String, b: &String| a == b || (!a.ends_with('\n') && b.trim_end() == a.trim_end());
    let head = old.iter().zip(&new).take_while(|(a, b)| same(a, b)).count();
    let room = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev());
    let tail = tail.take(room).take_while(|(a, b)| same(a, b)).count();
    let gone = &old[head..old.len() - tail];
    let put = &new[head..new.len() - tail];
    let comments = |lines: &[String]| -> Vec<String> {
        let all = lines
            .iter()
            .filter(|line| line.trim_start().starts_with(['#', ';']));
        all.cloned().collect()
    };
    // What is gone is one statement: its first line, then further lines of it.
    let further =
        |line: &String| line.starts_with([' ', '\t']) || line.trim_start().starts_with(['#', ';']);
    comments(gone) == comments(put) && gone.iter().skip(1).all(further)
}
