//! The OCI runtime `metactl-runtime`.
fn main() {}
