//! The bytes that nft 1.0.6 sends for the same rules, recorded from its system calls.

use super::encode::{Attrs, element_list, expressions};
use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(rule: &Rule) -> String {
    let mut attrs = Attrs::default();
    expressions(&mut attrs, rule);
    hex(&attrs.0)
}

#[test]
fn rules_have_the_bytes_of_nft() {
    let cases = [
        (
            "iifgroup 28003 fib saddr . iif oif missing drop",
            Rule::new()
                .in_by_group(28003, true)
                .source_elsewhere()
                .drop(),
            concat!(
                "24000180090001006d6574610000000014000280080002000000001508000100000000012c00018008000100636d7000",
                "20000280080001000000000108000200000000000c00038008000100636d00002800018008000100666962001c000280",
                "0800030000000029080002000000000108000100000000012c00018008000100636d7000200002800800010000000001",
                "08000200000000000c0003800800010000000000300001800e000100696d6d6564696174650000001c00028008000100",
                "00000000100002800c0002800800010000000000",
            ),
        ),
        (
            "oif \"lo\" accept",
            Rule::new().out_by_loopback().accept(),
            concat!(
                "24000180090001006d6574610000000014000280080002000000000508000100000000012c00018008000100636d7000",
                "20000280080001000000000108000200000000000c0003800800010001000000300001800e000100696d6d6564696174",
                "650000001c0002800800010000000000100002800c0002800800010000000001",
            ),
        ),
        (
            "tcp flags != syn / syn,ack accept",
            Rule::new().tcp_not_first().accept(),
            concat!(
                "24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000",
                "20000280080001000000000108000200000000000c0003800500010006000000340001800c0001007061796c6f616400",
                "2400028008000100000000010800020000000002080003000000000d08000400000000014c0001800c00010062697477",
                "697365003c00028008000100000000010800020000000001080006000000000008000300000000010c00048005000100",
                "120000000c00058005000100000000002c00018008000100636d70002000028008000100000000010800020000000001",
                "0c0003800500010002000000300001800e000100696d6d6564696174650000001c000280080001000000000010000280",
                "0c0002800800010000000001",
            ),
        ),
        (
            "meta l4proto tcp reject with tcp reset",
            Rule::new().protocol(6).reset(),
            concat!(
                "24000180090001006d6574610000000014000280080002000000001008000100000000012c00018008000100636d7000",
                "20000280080001000000000108000200000000000c0003800500010006000000240001800b00010072656a6563740000",
                "1400028008000100000000010500020000000000",
            ),
        ),
        (
            "reject with icmpx admin-prohibited",
            Rule::new().prohibit(),
            "240001800b00010072656a65637400001400028008000100000000020500020003000000",
        ),
    ];
    for (text, rule, bytes) in cases {
        assert_eq!(rule.to_string(), text);
        assert_eq!(encoded(&rule), bytes, "{text}");
    }
}

fn key(address: &str, middle: u16, port: u16) -> Key {
    Key {
        address: address.parse().unwrap(),
        middle,
        port,
    }
}

fn encoded_element(kind: Kind, first: Key, last: Key, comment: &str) -> String {
    let set = Set {
        name: "s".into(),
        shape: Shape::Service(Family::V4),
        kind,
        elements: Vec::new(),
    };
    let mut attrs = Attrs::default();
    element_list(
        &mut attrs,
        &set,
        &[Element {
            first,
            last,
            comment: comment.into(),
        }],
        &super::encode::Extra::default(),
    );
    hex(&attrs.0)
}

#[test]
fn elements_have_the_bytes_of_nft() {
    let one = key("10.0.0.1", 6, 80);
    assert_eq!(
        encoded_element(Kind::Hash, one, one, "db"),
        "2400018014000180100001000a0000010600000000500000090006000003646200000000"
    );
    let (first, last) = (key("10.0.0.0", 6, 1), key("10.255.255.255", 6, 65535));
    assert_eq!(
        encoded_element(Kind::Interval, first, last, "db"),
        concat!(
            "3800018014000180100001000a000000060000000001000014000a8010000100",
            "0affffff06000000ffff0000090006000003646200000000",
        )
    );
}

#[test]
fn long_comments_are_cut_at_a_character() {
    let one = key("10.0.0.1", 6, 80);
    let bytes = encoded_element(Kind::Hash, one, one, &"\u{e9}".repeat(200));
    assert!(bytes.contains(&"c3a9".repeat(60)));
    assert!(!bytes.contains(&"c3a9".repeat(61)));
}

#[test]
fn rules_read_like_nft() {
    let net = "10.77.0.0/16".parse().unwrap();
    let rule = Rule::new()
        .address(End::Source, &net, true)
        .address(End::Destination, &net, false);
    assert_eq!(
        rule.masquerade().to_string(),
        "ip saddr 10.77.0.0/16 ip daddr != 10.77.0.0/16 masquerade"
    );
    let (shape, end) = (Shape::Service(Family::V6), End::Source);
    let rule = Rule::new()
        .transport(17)
        .update(Selector::Service(end), shape, "seen", true);
    assert_eq!(
        rule.to_string(),
        "update @seen { ip6 saddr . meta l4proto . udp dport counter }"
    );
    let rule = Rule::new().found_in(
        Selector::Address(End::Destination),
        Shape::Address(Family::V4),
        "h",
    );
    assert_eq!(rule.goto("next").to_string(), "ip daddr @h goto next");
}
