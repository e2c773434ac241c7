//! Names in reject lists: with real sets and a name server of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod resolving;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Sandbox, World, entry, names, spec, world};
use metactl_bundles::network::{Entry, Mode, Peer, Policy, Verdict};
use metactl_netns::policy::status;
use resolving::{
    ANY, APP, Record, ask, eventually, exchange, question, resolver, serve_records, wire,
};

const A: u8 = 1;
const CNAME: u8 = 5;
const MX: u8 = 15;
const TXT: u8 = 16;
const AAAA: u8 = 28;
const SRV: u8 = 33;

fn start(world: &World, verdict: Verdict, accept: &[&str], reject: &[&str]) -> Sandbox {
    let mut spec = spec("myapp", Mode::Routed, &[APP]);
    let entries = |lines: &[&str]| -> Vec<Entry> {
        let mut entries: Vec<Entry> = lines.iter().map(|line| entry(line)).collect();
        for entry in &mut entries {
            if let Peer::Host(name) = &entry.peer
                && let Some(suffix) = name.strip_prefix("*.")
            {
                entry.peer = Peer::Suffix(suffix.to_owned());
            }
        }
        entries
    };
    spec.out = Policy {
        policy: verdict,
        accept: entries(accept),
        reject: entries(reject),
    };
    world.start(spec, &names(&[]))
}

/// The addresses that its reject list has now.
fn rejected(sandbox: &Sandbox) -> Vec<String> {
    let status = status(sandbox.ns.fd(), &sandbox.spec).unwrap();
    status
        .rejects
        .into_iter()
        .flat_map(|one| one.peers)
        .collect()
}

fn has(sandbox: &Sandbox, address: &str) -> bool {
    rejected(sandbox).iter().any(|one| one == address)
}

/// The response code, the answers, and the records behind them.
fn told(sandbox: &Sandbox, name: &str, kind: u8) -> (u8, u8, u8) {
    let answer = exchange(sandbox, &question(name, kind));
    (answer[3] & 15, answer[7], answer[9] + answer[11])
}

const NXDOMAIN: (u8, u8, u8) = (3, 0, 0);
const SERVFAIL: (u8, u8, u8) = (2, 0, 0);

#[test]
fn a_look_up_of_one_name_forgets_nothing_of_others_below_a_star() {
    let Some(world) = world("a_look_up_of_one_name_forgets_nothing_of_others_below_a_star") else {
        return;
    };
    serve_records(&world, |name, kind| {
        let last = if name.starts_with("a.") { 1 } else { 2 };
        let records = [Record::of(name, A, &[10, 1, 0, last])];
        Some(records.into_iter().filter(|one| one.kind == kind).collect())
    });
    let accept = ["a = a.star.example", "star = *.star.example"];
    let app = start(
        &world,
        Verdict::Reject,
        &accept,
        &["mail = *.star.example:25"],
    );
    let resolver = resolver(&world, &app, Duration::from_secs(4));
    assert_eq!(ask(&app, "b.star.example"), [Ipv4Addr::new(10, 1, 0, 2)]);
    assert!(has(&app, "10.1.0.2"), "{:?}", rejected(&app));
    eventually(
        "the address of the name that is followed",
        Duration::from_secs(3),
        || has(&app, "10.1.0.1"),
    );
    // Longer than an address is kept that is accepted, while `a` is looked up every second.
    std::thread::sleep(Duration::from_secs(8));
    assert!(has(&app, "10.1.0.2"), "{:?}", rejected(&app));
    resolver.end(&world, app);
}

#[test]
fn no_type_of_question_leads_past_a_list() {
    let Some(world) = world("no_type_of_question_leads_past_a_list") else {
        return;
    };
    serve_records(&world, |name, kind| {
        let address = |owner: &str, last: u8| Record::of(owner, A, &[10, 1, 0, last]);
        let host = |before: &[u8], host: &str| [before, &wire(host)].concat();
        let behind = |record: Record| Record {
            additional: true,
            ..record
        };
        Some(match (name, kind) {
            // Whatever the question is, an alias is answered with it.
            ("alias.foo.example", _) => vec![
                Record::of(name, CNAME, &wire("x.evil.example")),
                address("x.evil.example", 3),
            ],
            ("mx.foo.example", MX) => vec![Record::of(name, MX, &host(&[0, 5], "x.evil.example"))],
            ("srv.foo.example", SRV) => {
                vec![Record::of(
                    name,
                    SRV,
                    &host(&[0, 1, 0, 1, 0, 25], "x.evil.example"),
                )]
            }
            ("way.foo.example", ANY) => vec![
                Record::of(name, CNAME, &wire("b.star.example")),
                address("b.star.example", 4),
            ],
            ("foo.example", MX) => vec![
                Record::of(name, MX, &host(&[0, 5], "b.star.example")),
                behind(address("b.star.example", 5)),
            ],
            ("foo.example", TXT) => vec![Record::of(name, TXT, b"\x04text")],
            _ => Vec::new(),
        })
    });
    let lists = ["evil = *.evil.example", "mail = *.star.example:25"];
    let app = start(&world, Verdict::Accept, &[], &lists);
    let resolver = resolver(&world, &app, Duration::from_secs(60));
    for kind in [A, ANY, CNAME, TXT] {
        assert_eq!(told(&app, "alias.foo.example", kind), NXDOMAIN, "{kind}");
    }
    assert_eq!(told(&app, "mx.foo.example", MX), NXDOMAIN);
    assert_eq!(told(&app, "srv.foo.example", SRV), NXDOMAIN);
    // In part: told, and the address is rejected before; what stands behind the answers is left out.
    assert_eq!(told(&app, "way.foo.example", ANY), (0, 2, 0));
    assert_eq!(rejected(&app), ["10.1.0.4"]);
    assert_eq!(told(&app, "foo.example", MX), (0, 1, 0));
    assert_eq!(rejected(&app), ["10.1.0.4"]);
    assert_eq!(told(&app, "foo.example", TXT), (0, 1, 0));
    resolver.end(&world, app);
}

#[test]
fn elements_of_rejected_addresses_are_bounded() {
    let Some(world) = world("elements_of_rejected_addresses_are_bounded") else {
        return;
    };
    // `a17-3.many.example` has seventeen addresses, which none of another number has.
    serve_records(&world, |name, kind| {
        let (count, number) = name.split('.').next()?.strip_prefix('a')?.split_once('-')?;
        let (count, number): (u8, u8) = (count.parse().ok()?, number.parse().ok()?);
        let record = |n: u8| match kind {
            A => Some(Record::of(name, A, &[10, 1, number, n])),
            AAAA => {
                let six = Ipv6Addr::new(0x2001, 0xdb8, 7, number.into(), 0, 0, 0, n.into());
                Some(Record::of(name, AAAA, &six.octets()))
            }
            _ => None,
        };
        Some((0..count).filter_map(record).collect())
    });
    // 400 elements for each address: two protocols.
    let app = start(
        &world,
        Verdict::Accept,
        &[],
        &["many = *.many.example:1000-1199"],
    );
    let resolver = resolver(&world, &app, Duration::from_secs(60));
    assert_eq!(told(&app, "a64-1.many.example", A).0, 0);
    assert_eq!(told(&app, "a17-2.many.example", A).0, 0);
    assert_eq!(rejected(&app).len(), 81);
    // The other family, which the instance has not, takes no room.
    for number in 0..10 {
        let name = format!("a40-{number}.many.example");
        assert_eq!(told(&app, &name, AAAA).0, 0, "{name}");
    }
    assert_eq!(told(&app, "a1-3.many.example", A), SERVFAIL);
    assert_eq!(told(&app, "a2-1.many.example", A).0, 0);
    assert_eq!(rejected(&app).len(), 81);
    resolver.end(&world, app);
}

#[test]
fn a_rejected_name_is_looked_up_as_soon_as_somebody_can_be_asked() {
    let Some(world) = world("a_rejected_name_is_looked_up_as_soon_as_somebody_can_be_asked") else {
        return;
    };
    let (up, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (is_up, count) = (up.clone(), asked.clone());
    serve_records(&world, move |name, kind| {
        count.fetch_add(1, Ordering::SeqCst);
        let records = [Record::of(name, A, &[10, 1, 0, 6])];
        let found = records.into_iter().filter(|one| one.kind == kind);
        is_up.load(Ordering::SeqCst).then(|| found.collect())
    });
    let app = start(&world, Verdict::Accept, &[], &["bad = bad.example"]);
    let resolver = resolver(&world, &app, Duration::from_secs(300));
    eventually("the first question", Duration::from_secs(5), || {
        asked.load(Ordering::SeqCst) > 0
    });
    assert_eq!(rejected(&app), Vec::<String>::new());
    up.store(true, Ordering::SeqCst);
    eventually("the address", Duration::from_secs(10), || {
        has(&app, "10.1.0.6")
    });
    // From then on it is asked for no more often than others.
    let before = asked.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(asked.load(Ordering::SeqCst), before);
    resolver.end(&world, app);
}
