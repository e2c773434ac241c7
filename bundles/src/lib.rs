//! WHAT an instance is: configuration layers, the model of an application, and the bundle on disk.
//!
//! This crate turns text into a description of a sandbox. It reads the four layers of
//! configuration (defaults < app < site < server < local), merges and interpolates them while every
//! value keeps its origin, makes a typed model of the application of it, and materializes that
//! model as a *bundle*: a directory with one OCI bundle per entry point, a network description and
//! a manifest.
//!
//! It knows no kernel and needs no privilege: everything it has to know of the host is passed in.
//! It imports no other crate of the house, and forbids `unsafe`.
//!
//! # Where to begin reading
//!
//! One value walks straight down through these rooms:
//!
//! | room | in | out |
//! | --- | --- | --- |
//! | [`ini`] | text | sections and keys with spans |
//! | [`keys`] | | the one table of every key there is |
//! | [`layers`] | parsed files | merged configuration, each value with its origin |
//! | [`interpolate`] | merged configuration | `%(NAME)` replaced |
//! | [`model`] | configuration | the typed model ([`app::App`]) |
//! | [`platforms`] | a daemon's section | command line, environment, needs |
//! | [`view`] | model | what the application sees of the file system |
//! | [`oci`] | model + view | `config.json` |
//! | [`network`] | model | `network.json` |
//! | [`bundle`] | all of these | the directory on disk |
//!
//! Three rooms explain instead of making something: [`check`] judges a repository on its own, [`why`]
//! answers whether an instance may reach, see or have something, [`compare`] tells two sites apart.
//!
//! [`edit`] changes single keys of a layer, [`import`] reads configurations of others. [`diagnostics`] is what errors in configuration look like,
//! [`health`] what daemons are asked, [`redact`] what must not be printed, [`schedule`] when cron jobs run, [`secrets`] what the
//! application gets as files of its own, [`server`] the facts of this server, [`paths`] where things are, [`text`] what text is kept in.
#![forbid(unsafe_code)]

pub mod app;
pub mod bundle;
pub mod check;
pub mod compare;
pub mod diagnostics;
pub mod edit;
pub mod health;
pub mod import;
pub mod ini;
pub mod interpolate;
pub mod keys;
pub mod layers;
mod maps;
pub mod model;
pub mod network;
pub mod oci;
pub mod paths;
pub mod platforms;
pub mod redact;
pub mod schedule;
pub mod seccomp;
pub mod secrets;
pub mod server;
pub mod smf;
pub mod text;
pub mod view;
pub mod why;
