//! Asks the physical network whether somebody has an address already.

use std::net::IpAddr;
use std::time::Duration;

use crate::NetError;

/// Sends ARP probes (RFC 5227) for `address` on `uplink` and waits up to `timeout` for an answer. `Some` is the
/// hardware address of who has it. For `new` and `deploy`; never on the way of a start.
pub fn probe_conflict(
    address: IpAddr,
    uplink: &str,
    timeout: Duration,
) -> Result<Option<String>, NetError> {
    let _ = (address, uplink, timeout);
    Err(NetError::Unsupported {
        what: "probe".into(),
        hint: String::new(),
    })
}
