//! `metactl APP tcpdump` and `net`: tools of the server in the network of an instance.

use super::Context;
use crate::args::{Net, Tcpdump};
use crate::failure::Outcome;

/// Watches packets. This process becomes tcpdump, so that its exit code is tcpdump's.
pub fn tcpdump(context: &mut Context, args: &Tcpdump) -> Outcome {
    let instance = context.instance()?;
    context.output.flush()?;
    match instance.tcpdump(&args.arguments)? {}
}

/// Runs a command. This process becomes it.
pub fn net(context: &mut Context, args: &Net) -> Outcome {
    let instance = context.instance()?;
    context.output.flush()?;
    match instance.net(&args.command)? {}
}
