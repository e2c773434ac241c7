use super::*;

fn interpolator<'a>(pairs: &[(&'a str, &str)]) -> Interpolator<'a> {
    let kept = |text: &str| -> &'static Str { Box::leak(Box::new(Str::from(text))) };
    let definition = |raw: &str| Definition {
        raw: kept(raw),
        from_app: false,
        template: None,
    };
    Interpolator::new(
        pairs
            .iter()
            .map(|(name, raw)| (kept(name), definition(raw))),
    )
}

fn text(pairs: &[(&str, &str)], raw: &str) -> String {
    let resolved = interpolator(pairs).value(&raw.into());
    resolved.expect("no fault").text.to_string()
}

fn fault(pairs: &[(&str, &str)], raw: &str) -> Fault {
    interpolator(pairs)
        .value(&raw.into())
        .expect_err("a fault")
        .expect("told now")
}

#[test]
fn references_percents_and_what_is_neither() {
    let pairs = [("A", "1"), ("B", "<%(A)>"), ("E", "")];
    for (raw, expected) in [
        ("%(A)", "1"),
        ("%(A)s", "1s"),
        ("x%(B)y%(E)z", "x<1>yz"),
        ("100%", "100%"),
        ("date +%Y-%m", "date +%Y-%m"),
        ("%%(A) %%%(A) %%%%", "%(A) %1 %%"),
        ("ä%ö", "ä%ö"),
    ] {
        assert_eq!(text(&pairs, raw), expected, "{raw}");
    }
    for raw in ["%(", "%()", "%(A", "%(A B)", "x %(%Y)"] {
        assert!(
            matches!(fault(&pairs, raw).kind, FaultKind::Syntax(_)),
            "{raw}"
        );
    }
}

#[test]
fn faults_show_the_whole_chain() {
    let pairs = [("A", "%(B)"), ("B", "x %(C)")];
    let unknown = fault(&pairs, "y%(A)");
    assert_eq!(unknown.kind, FaultKind::Unknown("C".to_owned()));
    let names: Vec<_> = unknown
        .chain
        .iter()
        .map(|step| step.name.as_deref())
        .collect();
    assert_eq!(names, [None, Some("A"), Some("B")]);
    assert_eq!(unknown.chain[2].range, 2..6);

    let cycle = fault(&[("A", "%(B)"), ("B", "%(A)")], "%(A)");
    assert_eq!(cycle.kind, FaultKind::Cycle("A".to_owned()));
    assert_eq!(cycle.chain.len(), 3);
    let alone = fault(&[("A", "%(A)")], "%(A)");
    let names: Vec<_> = alone
        .chain
        .iter()
        .map(|step| step.name.as_deref())
        .collect();
    assert_eq!(names, [None, Some("A")]);
}

#[test]
fn a_fault_in_a_name_is_told_once() {
    let mut interpolator = interpolator(&[("A", "%(X)")]);
    assert!(interpolator.value(&"%(A)".into()).unwrap_err().is_some());
    assert!(interpolator.value(&"%(A)".into()).unwrap_err().is_none());
    assert!(interpolator.name("A").unwrap_err().is_none());
}

#[test]
fn unknown_names_can_wait() {
    let mut interpolator = interpolator(&[("A", "%(X)")]).lenient(true);
    let resolved = interpolator.value(&"<%(A)>".into()).unwrap();
    assert_eq!(resolved.text, "<%(X)>");
    assert!(resolved.missing.contains("X"));
}

#[test]
fn growth_and_depth_are_bounded() {
    let names: Vec<String> = (0..40).map(|n| format!("A{n}")).collect();
    let doubled: Vec<String> = (0..40).map(|n| format!("%(A{0})%(A{0})", n + 1)).collect();
    let mut pairs: Vec<(&str, &str)> = names
        .iter()
        .zip(&doubled)
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    pairs[30].1 = "0123456789";
    assert_eq!(fault(&pairs, "%(A0)").kind, FaultKind::TooLong);
    pairs[39].1 = "x";
    pairs[30].1 = "%(A31)";
    assert!(matches!(
        fault(&pairs, "%(A0)").kind,
        FaultKind::TooDeep | FaultKind::TooLong
    ));
    // The other way round, every link resolved before the next.
    let single: Vec<String> = (0..40).map(|n| format!("%(A{})", n + 1)).collect();
    let mut chain: Vec<(&str, &str)> = names
        .iter()
        .zip(&single)
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    chain[39].1 = "x";
    let mut interpolator = interpolator(&chain);
    let failed = (0..40)
        .rev()
        .find(|n| interpolator.name(&format!("A{n}")).is_err());
    assert_eq!(failed, Some(39 - MAX_DEPTH - 1));
}

#[test]
fn what_must_not_be_printed_is_masked_also_in_what_refers_to_it() {
    let pairs = [
        ("PW", "hush"),
        ("DB_PASSWORD", "hush"),
        ("URL", "db://me:%(PW)@h"),
    ];
    let mut interpolator = interpolator(&pairs);
    assert_eq!(interpolator.name("URL").unwrap().shown, "db://me:***@h");
    assert_eq!(
        interpolator
            .value(&"x %(DB_PASSWORD)".into())
            .unwrap()
            .shown,
        "x ***"
    );
    assert_eq!(
        interpolator.value(&"x %(DB_PASSWORD)".into()).unwrap().text,
        "x hush"
    );
}

#[test]
fn a_common_value_is_as_first_while_its_names_stand_for_the_same() {
    let raw = Str::from("jdbc://%(USER):%(DB_PASSWORD)@%(HOST)/");
    let template = Template::of(&raw).unwrap();
    let with = |host: &'static str, password: &'static str| {
        let pairs = [("USER", "u"), ("DB_PASSWORD", password), ("HOST", host)];
        interpolator(&pairs)
            .common_value(&raw, Some(&template))
            .unwrap()
    };
    for (host, password, as_first) in [
        ("a", "x", true),
        ("a", "x", true),
        ("b", "x", false),
        ("a", "y", false),
        ("a", "x", true),
    ] {
        let found = with(host, password);
        assert_eq!(found.text, format!("jdbc://u:{password}@{host}/"));
        assert_eq!(found.shown, format!("jdbc://u:***@{host}/"));
        assert_eq!(found.is_as_first(), as_first, "{host} {password}");
    }
    // What it takes to find the names is checked each time.
    let unknown = interpolator(&[("USER", "u")]).common_value(&raw, Some(&template));
    let fault = unknown.unwrap_err().unwrap();
    assert_eq!(fault.kind, FaultKind::Unknown("DB_PASSWORD".to_owned()));
    assert_eq!(fault.chain[0].range, 15..29);
}

#[test]
fn a_common_value_that_is_long_or_not_all_known_is_not_kept() {
    let raw = Str::from("%(A)");
    let long = "x".repeat(2000);
    // Too long the first time: nothing is kept from then on.
    for (values, as_first) in [
        ([long.as_str(), "1", "1"], [false, false, false]),
        (["%(B)", "1", "1"], [false, true, true]),
    ] {
        let template = Template::of(&raw).unwrap();
        for (value, as_first) in values.into_iter().zip(as_first) {
            let pairs = [("A", value)];
            let mut names = interpolator(&pairs).lenient(true);
            let found = names.common_value(&raw, Some(&template)).unwrap();
            assert_eq!(found.text, *value);
            assert_eq!(found.is_as_first(), as_first);
            assert_eq!(found.missing.is_empty(), *value != *"%(B)");
        }
    }
    assert!(Template::of(&Str::from("100%")).is_none());
    assert!(Template::of(&Str::from("%(A")).is_none());
}

#[test]
fn a_word_is_replaced_and_counts() {
    let half = "x".repeat(MAX_LENGTH / 2 + 1);
    let pairs = [("A", half.as_str()), ("B", "<%(C)>"), ("C", "1")];
    let mut names = interpolator(&pairs);
    assert_eq!(names.word("-b%(B)%%100%").unwrap(), "-b<1>%100%");
    for as_written in ["%(D)", "%(A"] {
        assert_eq!(names.word(as_written).unwrap(), as_written);
    }
    let mut circle = interpolator(&[("A", "%(A)")]);
    let fault = circle.word("%(A)").unwrap_err().unwrap();
    assert_eq!(fault.kind, FaultKind::Cycle("A".to_owned()));
    let fault = names.word("%(A)%(A)%(A)").unwrap_err().unwrap();
    assert_eq!(fault.kind, FaultKind::TooLong);
    let mut words = 0;
    while names.word("%(A)").is_ok() {
        words += 1;
    }
    assert!((100..MAX_TOTAL / half.len()).contains(&words), "{words}");
}
