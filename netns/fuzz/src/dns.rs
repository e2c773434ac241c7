//! Any bytes as a DNS message: as the question of an application, as the answer of a name server to that
//! question, and as the files of a server. Nothing of it may panic, hang or take memory out of proportion; what is made from it is
//! well-formed and fits; and no address is in it that does not belong to the question.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metactl_netns::resolver::message::{Answer, Query, Response, ask};
use metactl_netns::resolver::system::{Hosts, Resolving};

const A: u16 = 1;
const AAAA: u16 = 28;

/// The question that an answer repeats, as it was asked.
fn question(answer: &[u8]) -> Option<Query> {
    let mut at = 12;
    loop {
        match usize::from(*answer.get(at)?) {
            0 => break,
            length => at += 1 + length,
        }
    }
    let mut message = answer.get(..at + 5)?.to_vec();
    message[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    Query::parse(&message).ok()
}

fn answered(data: &[u8], query: &Query) {
    let Ok(response) = Response::parse(data, query.id, &query.name, query.kind) else {
        return;
    };
    for room in [60, 512, 1232, 65_535] {
        let passed = response.answers_for(query, room);
        let least = 12 + query.name.wire().len() + 4;
        assert!(passed.len() <= room.max(least), "{} in {room}", passed.len());
        assert!(Response::parse(&passed, query.id, &query.name, query.kind).is_ok());
        response.whole_for(query, room);
    }
    let told = response.addresses().len() + response.addresses_behind().len();
    assert!(told <= data.len() / 4, "{told} addresses in {} bytes", data.len());
    for kind in [A, AAAA] {
        let Ok(chain) = response.chain(&query.name, kind) else {
            continue;
        };
        assert!(chain.names.len() <= 16 && chain.addresses.len() <= 64);
        assert!(chain.addresses.iter().all(|address| address.is_ipv4() == (kind == A)));
        let mut answer = Answer::new(query, 65_535);
        answer.add(&chain.names, &chain.addresses, chain.ttl.min(86_400));
        let message = answer.finish();
        let again = Response::parse(&message, query.id, &query.name, query.kind);
        let again = again.unwrap_or_else(|error| panic!("{error}"));
        let found = again.chain(&query.name, kind).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.addresses, chain.addresses);
        assert_eq!(found.names, chain.names);
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(query) = Query::parse(data) {
        let again = Query::parse(&ask(query.id, &query.name, query.kind, true));
        assert!(again.is_ok_and(|again| again.name == query.name && again.kind == query.kind));
        let refused = query.empty(3, Some("no"));
        assert!(Response::parse(&refused, query.id, &query.name, query.kind).is_ok() || query.class != 1);
    }
    // Of other classes nothing is asked.
    if let Some(query) = question(data).filter(|query| query.class == 1) {
        answered(data, &query);
    }
    let text = String::from_utf8_lossy(data);
    Hosts::parse(&text);
    let resolving = Resolving::parse(&text, |_| Some(1));
    assert!((1..=3).contains(&resolving.servers.len()) && resolving.attempts > 0);
});
