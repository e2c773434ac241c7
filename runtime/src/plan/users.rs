//! User namespaces: the ids of a container, and those that a mount shows.

use oci_spec::runtime::{Linux, LinuxIdMapping};

use crate::plan::PlanError;
use crate::plan::mounts::{MountKind, MountStep};
use crate::plan::namespaces::Place;
use crate::plan::step::Step;
use crate::plan::values::{IdMap, IdMaps};
use crate::spec::Bundle;

/// The maps of the new user namespace.
pub fn maps(bundle: &Bundle, linux: &Linux) -> Result<IdMaps, PlanError> {
    let maps = IdMaps {
        users: list(linux.uid_mappings()),
        groups: list(linux.gid_mappings()),
    };
    for (field, maps) in [
        ("linux.uidMappings", &maps.users),
        ("linux.gidMappings", &maps.groups),
    ] {
        if maps.is_empty() {
            let why = "a new user namespace needs at least one mapping";
            return Err(bundle.invalid(field, why).into());
        }
    }
    Ok(maps)
}

fn list(mappings: &Option<Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    let of = |m: &LinuxIdMapping| IdMap {
        inside: m.container_id(),
        outside: m.host_id(),
        size: m.size(),
    };
    mappings.iter().flatten().map(of).collect()
}

/// The maps of an idmapped mount (mount_setattr(2), `MOUNT_ATTR_IDMAP`): its own, or with the
/// option `idmap` alone those of the container.
pub fn of_mount(
    bundle: &Bundle,
    at: usize,
    step: &MountStep,
    linux: &Linux,
) -> Result<Option<IdMaps>, PlanError> {
    let mount = bundle.spec.mounts().as_ref().and_then(|m| m.get(at));
    let own = mount.map_or_else(IdMaps::default, |mount| IdMaps {
        users: list(mount.uid_mappings()),
        groups: list(mount.gid_mappings()),
    });
    let field = format!("mounts[{at}]");
    let wanted = match (own.users.is_empty(), step.idmap) {
        (true, false) => return Ok(None),
        (true, true) => IdMaps {
            users: list(linux.uid_mappings()),
            groups: list(linux.gid_mappings()),
        },
        (false, _) => own,
    };
    if wanted.users.is_empty() || wanted.groups.is_empty() {
        let why = "the option idmap needs uidMappings and gidMappings, its own or linux's";
        return Err(bundle.invalid(field, why).into());
    }
    if !matches!(step.kind, MountKind::Bind { .. }) {
        let why = "only bind mounts can be idmapped; remove its mappings";
        return Err(bundle.unsupported(field, why).into());
    }
    Ok(Some(wanted))
}

/// What is written to `/proc/<pid>/timens_offsets` (time_namespaces(7)), if anything.
pub fn time_offsets(
    bundle: &Bundle,
    linux: &Linux,
    time: &Place,
) -> Result<Option<String>, PlanError> {
    let mut offsets: Vec<_> = linux.time_offsets().iter().flatten().collect();
    offsets.sort_by_key(|(clock, _)| *clock);
    let mut text = String::new();
    for (clock, offset) in offsets {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            let why = format!("{clock:?} is neither monotonic nor boottime");
            return Err(bundle.invalid("linux.timeOffsets", why).into());
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            let why = format!("{nanoseconds} nanoseconds are a second or more");
            return Err(bundle.invalid("linux.timeOffsets", why).into());
        }
        let seconds = offset.secs().unwrap_or(0);
        text.push_str(&format!("{clock} {seconds} {nanoseconds}\n"));
    }
    if text.is_empty() {
        return Ok(None);
    }
    if *time != Place::New {
        let why = "needs a new time namespace; add {\"type\": \"time\"}";
        return Err(bundle.invalid("linux.timeOffsets", why).into());
    }
    Ok(Some(text))
}

/// The step by which a process that joins a container becomes the root of its user namespace.
pub fn root_of(linux: Option<&Linux>) -> Step {
    let root = |maps: Option<&Option<Vec<LinuxIdMapping>>>| {
        IdMaps::root(&maps.map(list).unwrap_or_default())
    };
    Step::UserRoot {
        uid: root(linux.map(Linux::uid_mappings)),
        gid: root(linux.map(Linux::gid_mappings)),
    }
}
