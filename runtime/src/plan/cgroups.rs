//! In which cgroups a container is, and who makes them.

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxResources};

use crate::cgroup::{self, CgroupError, CgroupPath, CgroupPlan, Layout};
use crate::facts::HostFacts;
use crate::plan::PlanError;
use crate::plan::container::INSTANCE_ANNOTATION;
use crate::plan::namespaces::{Namespaces, Place};
use crate::request::{CgroupManager, LaunchRequest, Mode};
use crate::spec::Bundle;
use crate::systemd::{Scope, ScopeRequest};

/// The cgroups of `bundle`, and the scope of systemd in which they are, if they are in one.
pub fn plan(
    bundle: &Bundle,
    linux: &Linux,
    facts: &HostFacts,
    request: &LaunchRequest,
    namespaces: &Namespaces,
) -> Result<(CgroupPlan, Option<Scope>), PlanError> {
    let instance: Option<LinuxResources> = bundle.json_annotation(INSTANCE_ANNOTATION)?;
    let resources = linux.resources().as_ref();
    let limited = || resources.is_some_and(cgroup::asks_for_limits) || instance.is_some();
    if request.cgroup_manager == CgroupManager::Nobody {
        if limited() {
            let why = "limits need cgroups, and --cgroup-manager disabled does without; remove one";
            return Err(bundle.unsupported("linux.resources", why).into());
        }
        return Ok((CgroupPlan::default(), None));
    }
    let track = namespaces.pid != Place::New;
    let Some(layout) = &facts.cgroups else {
        let path = linux.cgroups_path().as_ref();
        if let Some(path) = path.filter(|_| request.cgroups_path_required && facts.uid != 0) {
            let (path, uid) = (path.clone(), facts.uid);
            return Err(CgroupError::PathNotDelegated { path, uid }.into());
        }
        return match (facts.uid, limited() || track) {
            (_, false) => Ok((CgroupPlan::default(), None)),
            (0, true) => Err(CgroupError::NotMounted.into()),
            (uid, true) => Err(CgroupError::NotDelegated { uid }.into()),
        };
    };
    if request.cgroup_manager == CgroupManager::Unit {
        let own = layout.own_service().map_err(PlanError::Request)?;
        return Ok((CgroupPlan::inherited(own), None));
    }
    let scope = match request.cgroup_manager {
        CgroupManager::Systemd => Some(scope(bundle, linux, layout, facts, request)?),
        CgroupManager::Files | CgroupManager::Nobody | CgroupManager::Unit => None,
    };
    let path = match (&scope, linux.cgroups_path()) {
        (Some(scope), _) => scope.cgroup_path(&facts.scopes_below),
        (None, Some(path)) => path.to_string_lossy().into_owned(),
        (None, None) => CgroupPath::of_container(request.id.as_str()),
    };
    let elsewhere = linux.cgroups_path().is_some() && !cgroup::is_ours(Path::new(&path));
    let path = CgroupPath::new(&path)?;
    let wanted = cgroup::Request {
        path: &path,
        resources,
        instance: instance.as_ref(),
        track,
        // Engines look for their container in every hierarchy.
        all: match request.mode {
            Mode::Create => true,
            Mode::Detached => elsewhere || scope.is_some() || linux.cgroups_path().is_none(),
            Mode::Foreground => elsewhere || scope.is_some(),
        },
        rootless: facts.uid != 0,
    };
    Ok((cgroup::plan(layout, &wanted)?, scope))
}

fn scope(
    bundle: &Bundle,
    linux: &Linux,
    layout: &Layout,
    facts: &HostFacts,
    request: &LaunchRequest,
) -> Result<Scope, PlanError> {
    let path = linux.cgroups_path().as_ref().map(|p| p.to_string_lossy());
    let annotations = bundle.spec.annotations().iter().flatten();
    let annotations = annotations.map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(Scope::plan(&ScopeRequest {
        id: request.id.as_str(),
        cgroups_path: path.as_deref(),
        resources: linux.resources().as_ref(),
        annotations: &annotations,
        user: facts.uid != 0,
        v2: matches!(layout, Layout::V2(_)),
    })?)
}
