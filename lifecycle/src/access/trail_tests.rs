use super::*;

fn trail() -> (tempfile::TempDir, Trail) {
    let dir = tempfile::tempdir().unwrap();
    let trail = Trail::of(&Paths::under(dir.path()));
    (dir, trail)
}

fn begun(id: &str, instance: &str, verb: &str) -> Begun {
    let words = Vec::new();
    let request = Request {
        verb,
        words: &words,
        instance: Some(instance),
        moved: false,
    };
    Begun {
        id: id.to_owned(),
        ..Begun::now(&request)
    }
}

#[test]
fn a_command_begins_and_ends() {
    let (_dir, trail) = trail();
    assert_eq!(trail.read(None).unwrap(), []);
    trail.begin(&begun("1", "a", "deploy")).unwrap();
    trail.begin(&begun("2", "b", "stop")).unwrap();
    assert_eq!(trail.read(Some("a")).unwrap()[0].result, Outcome::UnderWay);
    let took = Duration::from_millis(1500);
    let said = Some("cannot fetch https://x:hunter2@git.example.org/");
    trail
        .end(&begun("1", "a", "deploy"), 10, said, took)
        .unwrap();
    trail.end(&begun("2", "b", "stop"), 0, None, took).unwrap();
    let deeds = trail.read(Some("a")).unwrap();
    let [deed] = &deeds[..] else {
        panic!("{deeds:?}")
    };
    assert_eq!(
        (deed.result, deed.exit, deed.seconds),
        (Outcome::RolledBack, Some(10), Some(1.5))
    );
    assert!(
        !deed.error.as_ref().unwrap().contains("hunter2"),
        "{deed:?}"
    );
    assert_eq!(trail.read(None).unwrap()[1].result, Outcome::Done);
}

#[test]
fn who_was_killed_is_told_from_who_became_another_program() {
    let (_dir, trail) = trail();
    let dead = ProcessId {
        start_time: 1,
        ..ProcessId::current().unwrap()
    };
    for verb in ["deploy", "exec"] {
        let process = Some(dead.clone());
        trail
            .begin(&Begun {
                process,
                ..begun(verb, "a", verb)
            })
            .unwrap();
    }
    let results: Vec<Outcome> = trail
        .read(None)
        .unwrap()
        .iter()
        .map(|deed| deed.result)
        .collect();
    assert_eq!(results, [Outcome::Interrupted, Outcome::HandedOver]);
}

#[test]
fn a_torn_line_is_one_line() {
    let (_dir, trail) = trail();
    trail.begin(&begun("1", "a", "start")).unwrap();
    let mut file = OpenOptions::new().append(true).open(&trail.path).unwrap();
    file.write_all(b"{\"event\":\"ended\",\"id\":\"1\",\"ex")
        .unwrap();
    assert_eq!(trail.read(None).unwrap().len(), 1);
    trail.begin(&begun("2", "a", "stop")).unwrap();
    let deeds = trail.read(None).unwrap();
    assert_eq!(deeds.len(), 2);
    assert_eq!(deeds[1].command, "stop");
}

#[test]
fn a_link_in_its_place_leads_nowhere() {
    let (dir, trail) = trail();
    let other = dir.path().join("other");
    fs::write(&other, "kept").unwrap();
    fs::create_dir_all(trail.path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&other, &trail.path).unwrap();
    assert!(trail.begin(&begun("1", "a", "start")).is_err());
    assert!(trail.read(None).is_err());
    assert_eq!(fs::read(&other).unwrap(), b"kept");
    // A fifo is no trail, and nobody waits for it.
    fs::remove_file(&trail.path).unwrap();
    nix::unistd::mkfifo(&trail.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(trail.begin(&begun("1", "a", "start")).is_err());
}

#[test]
fn it_is_put_aside_and_read_through() {
    let (_dir, trail) = trail();
    trail.begin(&begun("1", "a", "start")).unwrap();
    let filler = vec![b'x'; usize::try_from(MAX_SIZE).unwrap()];
    let mut file = OpenOptions::new().append(true).open(&trail.path).unwrap();
    file.write_all(&filler).unwrap();
    trail
        .end(&begun("1", "a", "start"), 0, None, Duration::ZERO)
        .unwrap();
    assert!(trail.aside(1).exists());
    assert!(fs::metadata(&trail.path).unwrap().len() < 1000);
    let deeds = trail.read(None).unwrap();
    assert_eq!((deeds.len(), deeds[0].result), (1, Outcome::Done));
    for number in 2..=KEPT + 2 {
        trail.put_aside().unwrap();
        fs::write(&trail.path, "x").unwrap();
        assert_eq!(trail.aside(number).exists(), number <= KEPT, "{number}");
    }
}

#[test]
fn what_is_refused_crowds_out_nothing() {
    let (_dir, trail) = trail();
    trail.begin(&begun("1", "a", "deploy")).unwrap();
    let error = LifecycleError::NotPermitted {
        what: "x".to_owned(),
    };
    trail.refused(&begun("2", "a", "stop"), &error).unwrap();
    let refused = trail.of_refused();
    for _ in 0..=KEPT {
        refused.put_aside().unwrap();
        fs::write(&refused.path, "x").unwrap();
    }
    let deeds = trail.read(None).unwrap();
    let all: Vec<&str> = deeds.iter().map(|deed| deed.command.as_str()).collect();
    assert_eq!(all, ["deploy"]);
    trail.refused(&begun("3", "a", "stop"), &error).unwrap();
    let deeds = trail.read(Some("a")).unwrap();
    assert_eq!(
        (deeds.len(), deeds[1].result, deeds[1].exit),
        (2, Outcome::Refused, Some(77))
    );
}

#[test]
fn many_at_once_write_whole_lines() {
    let (_dir, trail) = trail();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let trail = &trail;
            scope.spawn(move || {
                for number in 0..50 {
                    trail
                        .begin(&begun(&format!("{thread}-{number}"), "a", "start"))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(trail.read(None).unwrap().len(), 200);
}

#[test]
fn secrets_are_not_recorded() {
    let shown = |verb: &str, line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        harmless(verb, &words).join(" ")
    };
    assert_eq!(
        shown("set", "env:DB_HOST=x env:DB_PASSWORD=y"),
        "env:DB_HOST=x env:DB_PASSWORD=***"
    );
    assert_eq!(shown("set", "secrets:db=y key=z"), "secrets:db=*** key=***");
    assert_eq!(
        shown("set", "secrets.env:A=y --gone env:A"),
        "secrets.env:A=*** --gone env:A"
    );
    assert_eq!(
        shown("set", "env:URL=http://u:p4ss@h/"),
        "env:URL=http://u:***@h/"
    );
    assert_eq!(
        shown("new", "https://u:p4ss@h/x.git"),
        "https://u:***@h/x.git"
    );
    assert_eq!(
        shown("exec", "web -- mysql -pSECRET db"),
        "web -- mysql (2 more)"
    );
    let long = shown("deploy", &"x ".repeat(100));
    assert!(long.ends_with("more)"), "{long}");
    assert!(shown("deploy", &"y".repeat(9999)).len() < 400);
}
