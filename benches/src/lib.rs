//! # metactl-benches: how fast, how small, compared with what
//!
//! Two kinds of measurements:
//!
//! * `benches/` holds criterion benchmarks of single functions: `cargo bench -p metactl-benches`.
//! * `side-by-side/` holds scripts that run whole programs against their peers, alternating, and
//!   print ratios: `benches/side-by-side/run.sh`, or `make bench`. Absolute times of one machine
//!   mean little; a ratio from one run means something.
//!
//! The scripts use three small programs of this crate: `bench-bundle` makes the OCI bundles,
//! `side-by-side` runs two commands in turn and compares them, `peak-memory` runs one command and
//! tells the most memory that one of its processes had.
//!
//! May import every crate of the house; nothing imports this one. Begin reading in
//! `side-by-side/run.sh`.

#![forbid(unsafe_code)]

pub mod sample;
pub mod statistics;
