use super::*;

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

/// A record with an uncompressed name.
fn record(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = name(owner).wire().to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// An answer to the question for www.example.org with these records.
fn response(flags: u16, kind: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = head(7, QR | RD | RA | flags, [1, records.len() as u16, 0, 0]);
    bytes.extend_from_slice(name("www.example.org").wire());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes.extend(records.concat());
    bytes
}

fn parse(message: &[u8], kind: u16) -> Result<Response<'_>, Malformed> {
    Response::parse(message, 7, &name("www.example.org"), kind)
}

fn chain(message: &[u8]) -> Chain {
    parse(message, A)
        .unwrap()
        .chain(&name("www.example.org"), A)
        .unwrap()
}

fn query(edns: bool) -> Query {
    Query::parse(&ask(9, &name("www.example.org"), A, edns)).unwrap()
}

fn target(text: &str) -> Vec<u8> {
    name(text).wire().to_vec()
}

#[test]
fn questions_are_read_as_they_are_sent() {
    let asked = query(true);
    assert_eq!((asked.id, asked.kind, asked.class), (9, A, CLASS_IN));
    assert_eq!(asked.name.to_string(), "www.example.org");
    assert_eq!((asked.room(), query(false).room()), (DATAGRAM, SMALL));
    // Letters come back as they were (0x20).
    let mut message = ask(9, &name("www.example.org"), A, false);
    message[13] = b'W';
    let answer = Query::parse(&message).unwrap().empty(NXDOMAIN, None);
    assert_eq!(answer.get(12..16), Some(&b"\x03Www"[..]));
    assert_eq!(answer.get(2..4), Some(&[0x81, 0x83][..]));
}

#[test]
fn what_is_no_question_is_refused() {
    let good = ask(9, &name("www.example.org"), A, true);
    for length in 0..HEADER {
        assert_eq!(Query::parse(&good[..length]), Err(BadQuery::Silence));
    }
    let code = |message: &[u8]| match Query::parse(message) {
        Err(BadQuery::Answer(answer)) => answer[3] & 15,
        other => panic!("{other:?}"),
    };
    for length in HEADER..good.len() {
        assert_eq!(code(&good[..length]), FORMERR, "{length}");
    }
    let changed = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        message
    };
    // An answer gets no answer: two resolvers would talk for ever.
    assert_eq!(Query::parse(&changed(2, 0x81)), Err(BadQuery::Silence));
    assert_eq!(code(&changed(2, 0x28)), NOTIMP);
    for at in [5, 7, 9] {
        assert_eq!(code(&changed(at, 2)), FORMERR);
    }
    assert_eq!(code(&[&good[..], &[0]].concat()), FORMERR);
}

#[test]
fn a_chain_leads_from_the_question_to_its_addresses() {
    let message = response(
        0,
        A,
        &[
            record("Web.cdn.example", A, 30, &[10, 0, 0, 1]),
            record("www.example.org", CNAME, 300, &target("a.cdn.example")),
            record("a.cdn.example", CNAME, 60, &target("web.cdn.example")),
            record("web.cdn.example", A, 90, &[10, 0, 0, 2]),
            record("web.cdn.example", A, 90, &[10, 0, 0, 2]),
            // Not of this chain, not of this type, not of this class.
            record("evil.example", A, 30, &[10, 6, 6, 6]),
            record("www.example.org", A, 30, &[10, 6, 6, 7]),
            record("web.cdn.example", AAAA, 1, &[0; 16]),
        ],
    );
    let found = chain(&message);
    assert_eq!(
        found.addresses,
        [IpAddr::from([10, 0, 0, 1]), [10, 0, 0, 2].into()]
    );
    assert_eq!(found.ttl, 30);
    let names: Vec<String> = found
        .names
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(names, ["a.cdn.example", "web.cdn.example"]);
}

#[test]
fn answers_to_something_else_are_refused() {
    let good = response(0, A, &[record("www.example.org", A, 30, &[10, 0, 0, 1])]);
    assert!(parse(&good, A).is_ok());
    assert!(parse(&good, AAAA).is_err());
    assert!(Response::parse(&good, 8, &name("www.example.org"), A).is_err());
    assert!(Response::parse(&good, 7, &name("w.example.org"), A).is_err());
    for length in 0..good.len() {
        assert!(parse(&good[..length], A).is_err(), "{length}");
    }
    assert!(parse(&[&good[..], &[0]].concat(), A).is_err());
    // A question is no answer.
    assert!(parse(&ask(7, &name("www.example.org"), A, true), A).is_err());
    // Nothing counts in one that was cut.
    let cut = response(TC, A, &[record("www.example.org", A, 30, &[10, 0, 0, 1])]);
    let cut = parse(&cut[..30 + 3], A).unwrap();
    assert!(cut.truncated && cut.answers.is_empty());
}

#[test]
fn malformed_addresses_and_endless_chains_are_errors() {
    let bad = |records: &[Vec<u8>]| {
        let message = response(0, A, records);
        parse(&message, A).and_then(|found| found.chain(&name("www.example.org"), A).map(drop))
    };
    assert!(bad(&[record("www.example.org", A, 1, &[10, 0, 0])]).is_err());
    assert!(bad(&[record("www.example.org", A, 1, &[0; 16])]).is_err());
    assert!(
        bad(&[record(
            "www.example.org",
            CNAME,
            1,
            &target("www.example.org")
        )])
        .is_err()
    );
    assert!(bad(&[record("www.example.org", CNAME, 1, &[1, b'a', 0, 0])]).is_err());
    assert!(bad(&[record("www.example.org", CNAME, 1, &[0xc0, 0xff])]).is_err());
    // Another one of the wrong length does not matter.
    assert!(bad(&[record("other.example", A, 1, &[1])]).is_ok());
}

#[test]
fn times_and_numbers_are_bounded() {
    let many: Vec<Vec<u8>> = (0..4000u32)
        .map(|n| {
            record(
                "www.example.org",
                A,
                u32::MAX,
                &(0x0a00_0000 | n).to_be_bytes(),
            )
        })
        .collect();
    let found = chain(&response(0, A, &many));
    assert_eq!(found.addresses.len(), ADDRESSES_MOST);
    assert_eq!(found.ttl, 0, "RFC 2181, 8");
}

#[test]
fn answers_are_made_to_fit() {
    for edns in [false, true] {
        let query = query(edns);
        let names = [(name("a.cdn.example"), 60), (name("web.cdn.example"), 30)];
        let addresses: Vec<IpAddr> = (0..100).map(|n| [10, 0, 0, n].into()).collect();
        let mut answer = Answer::new(&query, query.room());
        answer.add(&names, &addresses, 30);
        let held = answer.records();
        let message = answer.finish();
        assert!(message.len() <= query.room() && message.len() + 16 > query.room());
        let mut whole = message.clone();
        assert_eq!(whole[2] & 2, 2, "cut");
        whole[2] &= !2;
        let read = Response::parse(&whole, 9, &query.name, A).unwrap();
        let found = read.chain(&query.name, A).unwrap();
        assert_eq!(found.addresses, addresses[..(held - 2).min(ADDRESSES_MOST)]);
        assert_eq!(found.names, names);
        // By connection there is room for all.
        let mut answer = Answer::new(&query, MESSAGE_MOST);
        answer.add(&names, &addresses, 30);
        assert_eq!((answer.records(), answer.truncated), (102, false));
    }
    let empty = query(true).empty(NXDOMAIN, Some("no"));
    assert!(
        empty.ends_with(&[0, 15, 0, 4, 0, 15, b'n', b'o']),
        "{empty:?}"
    );
}

#[test]
fn records_of_other_types_are_passed_on_without_what_is_behind_them() {
    let question = {
        let mut message = ask(9, &name("www.example.org"), 16, true);
        message[13] = b'W';
        Query::parse(&message).unwrap()
    };
    let mut message = response(0, 16, &[record("www.example.org", 16, 30, b"\x05hello")]);
    message[11] = 1;
    message.extend(record("ns.evil.example", A, 30, &[10, 6, 6, 6]));
    let read = parse(&message, 16).unwrap();
    let answer = read.answers_for(&question, 1232);
    let again = Response::parse(&answer, 9, &question.name, 16).unwrap();
    assert_eq!(
        (again.answers.len(), again.answers[0].data),
        (1, &b"\x05hello"[..])
    );
    assert!(!answer.windows(4).any(|four| four == [10, 6, 6, 6]));
    // What does not fit is asked for again by connection.
    let cut = read.answers_for(&question, 40);
    assert_eq!((cut[2] & 2, cut[7]), (2, 0));
    // With policy accept everything is passed on.
    let whole = read.whole_for(&question, 1232);
    assert_eq!((&whole[..2], &whole[2..]), (&[0, 9][..], &message[2..]));
    assert_eq!(read.whole_for(&question, 60)[2] & 2, 2);
}

proptest::proptest! {
    #[test]
    fn nothing_is_too_strange(bytes in proptest::collection::vec(0u8..=255, 0..400)) {
        drop(Query::parse(&bytes));
        let id = u16::from_be_bytes(*bytes.first_chunk().unwrap_or(&[0; 2]));
        let mut at = HEADER;
        if let Ok((name, kind, _)) = question(&bytes, &mut at)
            && let Ok(found) = Response::parse(&bytes, id, &name, kind)
        {
            drop(found.chain(&name, A));
        }
    }
}
