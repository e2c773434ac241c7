//! # metactl-benches: how fast, how small, compared with what
//!
//! Two kinds of measurements:
//!
//! * `benches/` holds criterion benchmarks of single functions: `cargo bench -p metactl-benches`.
//! * `side-by-side/` holds scripts that run whole programs against their peers, alternating, and
//!   print ratios: `benches/side-by-side/run.sh`, or `make bench`. Absolute times of one machine
//!   mean little; a ratio from one run means something.
//!
//! The scripts use small programs of this crate: `bench-bundle` and `launch-bundle` make the OCI
//! bundles, `side-by-side` runs commands in turn and compares them, `many` runs one command often
//! and several at a time, `peak-memory` runs one command and tells the most memory that one of its
//! processes had, `summary` prints the table at the end.
//!
//! May import every crate of the house; nothing imports this one. Begin reading in
//! `side-by-side/run.sh`.

#![forbid(unsafe_code)]

pub mod contender;
pub mod record;
pub mod sample;
pub mod standard;
pub mod statistics;
