use std::cell::RefCell;

use super::*;

/// Answers as it was told, in this order, and remembers the questions.
struct Told {
    answers: RefCell<Vec<Said>>,
    asked: RefCell<Vec<String>>,
}

impl Told {
    fn new(answers: &[(bool, &str, &str)]) -> Told {
        let said = |(good, out, err): &(bool, &str, &str)| Said {
            good: *good,
            out: (*out).to_owned(),
            err: (*err).to_owned(),
        };
        Told {
            answers: RefCell::new(answers.iter().rev().map(said).collect()),
            asked: RefCell::default(),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }
}

impl Programs for Told {
    fn run(&self, program: &str, args: &[&str], input: &str) -> Result<Said> {
        let question = format!("{program} {} <{input}", args.join(" "));
        self.asked
            .borrow_mut()
            .push(question.trim_end_matches(" <").to_owned());
        Ok(self.answers.borrow_mut().pop().expect("another question"))
    }
}

const FACTS: &str = "svc:/site/metactl/a:web/:properties/restarter/state astring online
svc:/site/metactl/a:web/:properties/restarter/next_state astring none
svc:/site/metactl/a:web/:properties/restarter/state_timestamp time 1700000000.250000000
svc:/site/metactl/a:web/:properties/restarter/start_pid count 4711
svc:/site/metactl/a:web/:properties/restarter/contract count 88
svc:/site/metactl/a:web/:properties/restarter/transient_contract count
svc:/site/metactl/a:web/:properties/restarter/logfile astring /var/svc/log/site-metactl-a:web.log
svc:/site/metactl/a:web/:properties/general/enabled boolean false
svc:/site/metactl/a:web/:properties/general_ovr/enabled boolean true
svc:/site/metactl/a:web/:properties/entrypoint/name astring web
svc:/site/metactl/a:web/:properties/entrypoint/kind astring daemon
svc:/site/metactl/a:web/:properties/start/exec astring x\\ \\'y\\'\\ restarter/state
svc:/site/metactl/a:web/:properties/metactl/bundle astring 0123
svc:/site/metactl/a:web/:properties/metactl/instance astring a
svc:/site/metactl/a:default/:properties/restarter/state astring disabled
svc:/site/metactl/a:default/:properties/restarter/contract count
svc:/site/metactl/a:default/:properties/general/enabled boolean true
svc:/site/metactl/a:default/:properties/metactl/instance astring \"\"
";

#[test]
fn what_svcprop_says_is_understood() {
    let told = Told::new(&[(true, FACTS, "")]);
    let states = look(&told, "a").unwrap();
    assert_eq!(told.asked(), ["svcprop -c -f svc:/site/metactl/a:*"]);
    let web = &states["web"];
    assert!(web.is_active() && web.is_wanted() && !web.at_boot);
    assert_eq!((web.pid, web.contract.as_deref()), (Some(4711), Some("88")));
    assert_eq!(
        (web.method_contract.as_deref(), web.next.as_str()),
        (None, "")
    );
    assert_eq!(
        web.log.as_deref(),
        Some("/var/svc/log/site-metactl-a:web.log")
    );
    let whole = &states["default"];
    assert!(!whole.is_active() && whole.is_wanted() && whole.at_boot);
    assert_eq!(
        (whole.contract.as_deref(), whole.instance.as_deref()),
        (None, None)
    );
}

#[test]
fn no_service_is_no_error_and_no_answer_is_one() {
    let none = "svcprop: Pattern 'svc:/site/metactl/a:*' doesn't match any entities\n";
    assert!(
        look(&Told::new(&[(false, "", none)]), "a")
            .unwrap()
            .is_empty()
    );
    let down = "svcprop: svc_scf: could not bind to repository\n";
    let error = look(&Told::new(&[(false, "", down)]), "a").unwrap_err();
    assert!(error.to_string().contains("could not bind"), "{error}");
}

#[test]
fn words_of_svcprop() {
    assert_eq!(words("a b\\ c \"\" \\\\"), ["a", "b c", "", "\\"]);
}

#[test]
fn who_was_killed_for_not_stopping_leaves_maintenance() {
    let state = |word: &str| {
        format!("svc:/site/metactl/a:web/:properties/restarter/state astring {word}\n")
    };
    let bad = "svcadm: Instance \"svc:/site/metactl/a:web\" is in maintenance state.\n";
    let told = Told::new(&[
        (false, "", bad),
        (true, &state("maintenance"), ""),
        (true, "", ""),
    ]);
    disable(&told, "svc:/site/metactl/a:web").unwrap();
    assert_eq!(
        told.asked(),
        [
            "svcadm disable -s -t svc:/site/metactl/a:web",
            "svcprop -c -f svc:/site/metactl/a:web",
            "svcadm clear svc:/site/metactl/a:web",
        ]
    );
    let told = Told::new(&[(false, "", bad), (true, &state("online"), "")]);
    disable(&told, "svc:/site/metactl/a:web").unwrap_err();
}

#[test]
fn errors_say_what_failed_on_what_and_why() {
    let bad = "svccfg: couldn't parse document\nsecond line\n";
    let told = Told::new(&[(false, "", bad)]);
    let error = import(&told, Path::new("/s/smf.xml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot svccfg import (/s/smf.xml): svccfg: couldn't parse document; second line"
    );
    let told = Told::new(&[(true, "", "")]);
    at_boot(&told, "svc:/x:y", true).unwrap();
    assert_eq!(
        told.asked(),
        ["svccfg -s svc:/x:y setprop general/enabled = boolean: true"]
    );
}

#[test]
fn reasons_of_svcs() {
    let text = "svc:/site/metactl/a:web (a web)\n State: maintenance since Thu Nov 26 12:00:00 2026\nReason: Restarting too quickly.\n   See: http://illumos.org/msg/SMF-8000-L5\nImpact: This service is not running.\n";
    let told = Told::new(&[(true, text, "")]);
    assert_eq!(
        explain(&told, "svc:/x:y").unwrap(),
        "Restarting too quickly"
    );
    assert_eq!(explain(&Told::new(&[(false, "", "x")]), "svc:/x:y"), None);
}

#[test]
fn no_crontab_is_an_empty_one() {
    let none = "crontab: can't open your crontab file.\n";
    assert_eq!(crontab(&Told::new(&[(false, "", none)])).unwrap(), "");
    crontab(&Told::new(&[(
        false,
        "",
        "crontab: you are not authorized\n",
    )]))
    .unwrap_err();
    let told = Told::new(&[(true, "", ""), (true, "", "")]);
    write_crontab(&told, "x\n").unwrap();
    write_crontab(&told, "").unwrap();
    assert_eq!(told.asked(), ["crontab  <x\n", "crontab -r"]);
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let error = OfSystem
        .run("metactl-no-such-program", &[], "")
        .unwrap_err();
    assert!(error.hint().unwrap().contains("standalone"), "{error}");
    let said = OfSystem.run("cat", &[], "hello").unwrap();
    assert_eq!((said.good, said.out.as_str()), (true, "hello"));
}

#[test]
fn a_value_with_lines_in_it_says_nothing_of_the_state() {
    // As svcprop has the value "x\nsvc:/site/metactl/a:web/:properties/restarter/state astring disabled".
    let value = "x\\\nsvc:/site/metactl/a:web/:properties/restarter/state\\ astring\\ disabled";
    let line = "svc:/site/metactl/a:web/:properties/method_context/environment astring";
    let told = Told::new(&[(true, &format!("{FACTS}{line} {value}\n"), "")]);
    assert_eq!(look(&told, "a").unwrap()["web"].state, "online");
}
