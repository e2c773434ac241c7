//! Limits, users and capabilities of the new process. Runs in it: allocates nothing.

use std::ffi::CStr;

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets as RawSets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::capabilities::CapabilitySets;
use crate::report::Fault;
use crate::sys;

/// Sets a resource limit.
pub fn limit(resource: Resource, soft: u64, hard: u64) -> Result<(), Fault> {
    let value = |v: u64| (v != u64::MAX).then_some(v);
    Ok(setrlimit(
        resource,
        Rlimit {
            current: value(soft),
            maximum: value(hard),
        },
    )?)
}

/// Becomes the user. Groups first, while that is still allowed; capabilities are kept until
/// [`set_capabilities`] says which.
pub fn become_user(uid: u32, gid: u32, groups: &[Gid], umask: u32) -> Result<(), Fault> {
    set_keep_capabilities(true)?;
    match set_thread_groups(groups) {
        // A user namespace made without privilege has no groups to change (user_namespaces(7)).
        Err(Errno::PERM) if groups.is_empty() => {}
        result => result?,
    }
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid)?;
    rustix::process::umask(Mode::from_raw_mode(umask));
    Ok(())
}

/// Becomes the user of a new user namespace that has its capabilities. Its supplementary groups
/// are those of the runtime, if it may not change them (user_namespaces(7), `setgroups`).
pub fn become_root(uid: u32, gid: u32) -> Result<(), Fault> {
    match set_thread_groups(&[]) {
        Ok(()) | Err(Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(uid);
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Joins a new session keyring. On a kernel without keys there is nothing to protect.
pub fn session_keyring(name: &CStr) -> Result<(), Fault> {
    match sys::join_session_keyring(name) {
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Drops everything else from the bounding set.
pub fn bound(bounding: u64) -> Result<(), Fault> {
    for number in 0..64u32 {
        if bounding & (1 << number) != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The kernel knows no capability with this number, nor any higher.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Makes everything effective again that a change of the user took out of effect: loading a filter
/// needs a capability.
pub fn raise() -> Result<(), Fault> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Sets the other four sets.
pub fn set_capabilities(sets: &CapabilitySets) -> Result<(), Fault> {
    let raw = |mask| CapabilitySet::from_bits_retain(mask);
    rustix::thread::set_capabilities(
        None,
        RawSets {
            effective: raw(sets.effective),
            permitted: raw(sets.permitted),
            inheritable: raw(sets.inheritable),
        },
    )?;
    clear_ambient_capability_set()?;
    for number in 0..64u32 {
        if sets.ambient & (1 << number) != 0 {
            configure_capability_in_ambient_set(raw(1 << number), true)?;
        }
    }
    Ok(())
}
