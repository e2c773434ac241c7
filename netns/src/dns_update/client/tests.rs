//! Servers that are good, silent, or somebody else.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use super::super::tsig::tests::{answer_to, mac_of, signed};
use super::*;

fn key(secret: &str) -> Key {
    Key::parse(&format!(
        "key k {{ algorithm hmac-sha256; secret {secret}; }};"
    ))
    .unwrap()
}

fn patience() -> Patience {
    Patience {
        udp: vec![Duration::from_millis(150), Duration::from_millis(150)],
        tcp: Duration::from_millis(300),
    }
}

/// What a server answers to a question, one after the other.
type Answers = fn(&Key, &[u8]) -> Vec<Vec<u8>>;

/// A server that answers so over UDP, and so over TCP; tells how often it was asked.
fn server(udp: Answers, tcp: Answers) -> (SocketAddr, mpsc::Receiver<&'static str>) {
    // The same port of both kinds: somebody else may have one of them.
    let (socket, listener) = loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
            break (socket, listener);
        }
    };
    let address = socket.local_addr().unwrap();
    let (asked, was_asked) = mpsc::channel();
    let tell = asked.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            tell.send("udp").ok();
            for answer in udp(&key("QUJD"), &buffer[..length]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            asked.send("tcp").ok();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).unwrap();
            for answer in tcp(&key("QUJD"), &question) {
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                // In two pieces, as they may come.
                stream.write_all(&length[..1]).unwrap();
                stream.write_all(&[&length[1..], &answer].concat()).unwrap();
            }
        }
    });
    (address, was_asked)
}

fn good(key: &Key, question: &[u8]) -> Vec<Vec<u8>> {
    vec![answer_to(key, question, &mac_of(question), now())]
}

fn silence(_: &Key, _: &[u8]) -> Vec<Vec<u8>> {
    Vec::new()
}

fn refusal(_: &Key, question: &[u8]) -> Vec<Vec<u8>> {
    let mut answer = question[..message::HEADER].to_vec();
    answer[2] |= 0x80;
    answer[3] = 5;
    answer[4..].fill(0);
    vec![answer]
}

fn update(servers: &[SocketAddr], secret: &str) -> Result<(), DnsError> {
    let key = key(secret);
    Client::new(servers, &key, patience()).update(&change(), 60)
}

fn change() -> Update {
    Update {
        zone: Name::parse("example.org").unwrap(),
        owner: Name::parse("a.example.org").unwrap(),
        remove: Vec::new(),
        add: vec![super::super::Data::Address("10.0.0.1".parse().unwrap())],
    }
}

fn why(result: Result<(), DnsError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_good_answer_is_enough_and_a_cut_one_is_fetched_over_tcp() {
    let (address, asked) = server(good, silence);
    assert_eq!(update(&[address], "QUJD"), Ok(()));
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["udp"]);
    let cut: Answers = |key, question| {
        let mut question = question.to_vec();
        question[2] |= 2;
        good(key, &question)
    };
    let (address, asked) = server(cut, good);
    assert_eq!(update(&[address], "QUJD"), Ok(()));
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["udp", "tcp"]);
}

#[test]
fn silence_is_waited_for_and_tcp_tried() {
    let (address, asked) = server(silence, good);
    assert_eq!(update(&[address], "QUJD"), Ok(()));
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["udp", "udp", "tcp"]);
    let (address, _asked) = server(silence, silence);
    let told = why(update(&[address], "QUJD"));
    assert!(told.contains("UDP: nothing within 300 ms; TCP: "), "{told}");
    // Nobody there at all.
    let nobody = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let told = why(update(&[nobody], "QUJD"));
    assert!(told.contains("refused"), "{told}");
}

#[test]
fn forged_answers_do_not_count() {
    let forged: Answers = |key, question| {
        let mut other_number = good(key, question).remove(0);
        other_number[0] ^= 1;
        let mut unsigned = refusal(key, question).remove(0);
        unsigned[3] = 0;
        let noise = vec![vec![0; 3], other_number, unsigned];
        [noise, refusal(key, question), good(key, question)].concat()
    };
    let (address, _asked) = server(forged, silence);
    assert_eq!(update(&[address], "QUJD"), Ok(()));
    // Without the good one, it is not believed that anything was done.
    let unsigned: Answers = |key, question| {
        let mut answer = refusal(key, question).remove(0);
        answer[3] = 0;
        vec![answer]
    };
    let (address, _asked) = server(unsigned, silence);
    let told = why(update(&[address], "QUJD"));
    assert!(
        told.contains("not to be trusted: it is not signed"),
        "{told}"
    );
    // Nor with another key.
    let (address, _asked) = server(good, silence);
    let told = why(update(&[address], "REVG"));
    assert!(told.contains("its signature is wrong"), "{told}");
    let (address, _asked) = server(refusal, silence);
    let told = why(update(&[address], "QUJD"));
    assert!(
        told.contains("REFUSED: the key k may not do that"),
        "{told}"
    );
}

#[test]
fn the_next_server_is_asked_and_a_dead_one_not_again() {
    let (dead, was_asked) = server(silence, silence);
    let (alive, _asked) = server(good, good);
    let (key, servers) = (key("QUJD"), [dead, alive]);
    let client = Client::new(&servers, &key, patience());
    for _ in 0..3 {
        assert_eq!(client.update(&change(), 60), Ok(()));
    }
    assert_eq!(was_asked.try_iter().count(), 3);
    // A refusal is worth more than silence.
    let (unwilling, _asked) = server(refusal, refusal);
    for servers in [[dead, unwilling], [unwilling, dead]] {
        assert!(why(update(&servers, "QUJD")).contains("REFUSED"));
    }
}

#[test]
fn clocks_that_differ_are_told() {
    let late: Answers = |key, question| {
        let then = Some(now() - 7200);
        // The time of the question, long ago for the server, stands in the answer too.
        vec![signed(key, question, &mac_of(question), now(), then)]
    };
    let (address, _asked) = server(late, silence);
    let error = update(&[address], "QUJD").unwrap_err();
    assert!(error.is_about_the_key());
    let told = error.to_string();
    assert!(
        told.contains("BADTIME: the clocks differ: its one is 720"),
        "{told}"
    );
}
