//! Launches a bundle on Solaris and illumos: the second backend, beside `runtime` and `netns`.
//!
//! It works as the Linux backend does: a pure function turns a bundle into a plan, an ordered list
//! of typed steps, and a small executor carries the steps out. Here the steps are the lines of
//! `zonecfg`, `dladm` and `ipf`. They can be rendered, printed and compared on any system; only
//! carrying them out needs Solaris.
//!
//! An instance becomes one zone: its address is an exclusive interface, its accept lists are rules
//! of the zone's own packet filter, its limits are resource controls of the zone.
//!
//! May import `bundles` (what an instance is) and nothing else of the house: no network
//! namespaces, no cgroups, no system calls of Linux. It forbids `unsafe`.
//!
//! # Where to begin reading
//!
//! Nothing is rendered yet. The rooms will be `plan` (bundle to steps), `zonecfg` and `ipfilter`
//! (steps to text) and `apply` (carrying out), and `plan` will be the place to begin. Until then
//! [`metactl_bundles::app`] shows what there is to render, and
//! [`metactl_bundles::network`] what an address and an accept list are.
#![forbid(unsafe_code)]
