//! The `metactl` command.
fn main() {}
