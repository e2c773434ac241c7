//! What rules are made of.

use std::net::IpAddr;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub(crate) fn of(address: &IpAddr) -> Family {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// nft's word for its header.
    pub(super) fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    pub(super) fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// Length of an address.
    pub(super) fn length(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

/// The source or the destination of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

impl End {
    pub(super) fn address_word(self) -> &'static str {
        match self {
            End::Source => "saddr",
            End::Destination => "daddr",
        }
    }

    pub(super) fn port_word(self) -> &'static str {
        match self {
            End::Source => "sport",
            End::Destination => "dport",
        }
    }

    pub(super) fn address_offset(self, family: Family) -> u32 {
        match (family, self) {
            (Family::V4, End::Source) => 12,
            (Family::V4, End::Destination) => 16,
            (Family::V6, End::Source) => 8,
            (Family::V6, End::Destination) => 24,
        }
    }

    pub(super) fn port_offset(self) -> u32 {
        match self {
            End::Source => 0,
            End::Destination => 2,
        }
    }

    pub(super) fn other(self) -> End {
        match self {
            End::Source => End::Destination,
            End::Destination => End::Source,
        }
    }
}

/// What a packet's key is made of, for a set of the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The address of `end`.
    Address(End),
    /// The address of `end`, the protocol, the destination port.
    Service(End),
    /// The address of `end`, the protocol, the first two bytes behind the IP header (ICMP: type and code).
    Other(End),
    /// The address and the port of `end`, the port of the other end.
    Flow(End),
}

/// The kernel's expressions, as far as they are needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    Meta {
        key: u32,
        to: u32,
    },
    Payload {
        base: u32,
        offset: u32,
        length: u32,
        to: u32,
    },
    Cmp {
        from: u32,
        equal: bool,
        value: Vec<u8>,
    },
    /// `NFT_RANGE_EQ`.
    Between {
        from: u32,
        first: Vec<u8>,
        last: Vec<u8>,
    },
    Bitwise {
        register: u32,
        mask: Vec<u8>,
    },
    Lookup {
        set: String,
        from: u32,
        invert: bool,
    },
    Update {
        set: String,
        from: u32,
        counter: bool,
    },
    /// Two bytes of an extension header of IPv6 at an offset; without one whether it is there (one byte, 0 or 1).
    Header {
        kind: u8,
        offset: Option<u32>,
        to: u32,
    },
    Counter,
    Fib {
        to: u32,
    },
    /// `fib daddr type`.
    DestinationType {
        to: u32,
    },
    CtState {
        to: u32,
    },
    CtStatus {
        to: u32,
    },
    /// What `map` says of the key in `from`.
    Map {
        map: String,
        from: u32,
        to: u32,
    },
    /// The registers of the new destination.
    Dnat {
        family: Family,
        address: u32,
        port: u32,
    },
    Reject {
        kind: u32,
        code: u8,
    },
    Masquerade,
    Immediate {
        to: u32,
        value: Vec<u8>,
    },
    /// The address is in the first register, the port in the second.
    Redirect(Family),
    NoTrack,
    Verdict {
        code: i32,
        chain: Option<String>,
    },
}

pub(super) fn protocol_word(number: u8) -> String {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        number => number.to_string(),
    }
}

/// nft's word for a type of ICMP.
pub(super) fn icmp_word(family: Family, kind: u8) -> String {
    let word = match (family, kind) {
        (Family::V4, 0) | (Family::V6, 129) => "echo-reply",
        (Family::V4, 3) | (Family::V6, 1) => "destination-unreachable",
        (Family::V4, 11) | (Family::V6, 3) => "time-exceeded",
        (Family::V4, 12) | (Family::V6, 4) => "parameter-problem",
        (Family::V6, 2) => "packet-too-big",
        (Family::V6, 134) => "nd-router-advert",
        (Family::V6, 137) => "nd-redirect",
        (Family::V6, 135) => "nd-neighbor-solicit",
        (Family::V6, 136) => "nd-neighbor-advert",
        (_, kind) => return kind.to_string(),
    };
    word.into()
}

/// The bytes of an address.
pub(super) fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
