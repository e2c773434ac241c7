//! What is around the new process before its root is made: its user namespace, its cgroups, the
//! namespaces that it joins or makes itself, the names of the host.

use crate::cgroup::CgroupPlan;
use crate::plan::container::{Context, hierarchies};
use crate::plan::namespaces::Place;
use crate::plan::step::{IdMaps, Step};
use crate::plan::{PlanError, tuning, users};

impl Context<'_> {
    /// Cgroups, namespaces, names.
    pub(super) fn surroundings(
        &self,
        cgroup: &CgroupPlan,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        steps.extend(tuning::labels(
            self.process,
            self.bundle,
            self.facts.modules,
        )?);
        self.users(steps)?;
        let hierarchies = hierarchies(cgroup);
        if hierarchies > 0 {
            steps.push(Step::JoinCgroups { hierarchies });
        }
        if self.namespaces.in_two_stages() {
            self.rebirth(hierarchies, steps)?;
        } else {
            // Refused without a namespace for them.
            self.time_offsets()?;
            if hierarchies > 0 && self.namespaces.cgroup == Place::New {
                steps.push(Step::NewCgroupNamespace);
            }
            self.join(&["pid"], steps);
        }
        if self.namespaces.network == Place::New && !self.namespaces.runtime_makes_network() {
            steps.push(Step::LoopbackUp);
        }
        self.names(steps)
    }

    /// The user namespace, and the ids in it.
    fn users(&self, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        let maps = match &self.namespaces.user {
            Place::Host => {
                if !self.namespaces.in_two_stages() {
                    steps.push(Step::Hide);
                }
                return Ok(());
            }
            Place::New => {
                steps.push(Step::AwaitMapping);
                users::maps(self.bundle, self.linux)?
            }
            Place::Join(path) => {
                // What that user namespace does not own, only the host's root may join.
                if self.facts.uid == 0 {
                    self.join(&[], steps);
                }
                steps.push(Step::JoinNamespace {
                    kind: "user",
                    path: path.clone(),
                });
                Default::default()
            }
        };
        steps.push(Step::UserRoot {
            uid: IdMaps::root(&maps.users),
            gid: IdMaps::root(&maps.groups),
        });
        // Before the ids are there, a runtime without privilege has to write them; and the offsets
        // of its clocks are written by the process itself.
        if !self.namespaces.in_two_stages() {
            steps.push(Step::Hide);
        }
        Ok(())
    }

    /// What a process that could not be born into its namespaces does before its successor.
    fn rebirth(&self, hierarchies: usize, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        if self.facts.uid != 0 || self.namespaces.user == Place::New {
            self.join(&[], steps);
        }
        let mut new = self.new_mounts();
        new.extend(
            self.namespaces
                .each()
                .into_iter()
                .filter(|(name, place, _)| **place == Place::New && *name != "user")
                .filter(|(name, ..)| *name != "network" || !self.namespaces.runtime_makes_network())
                .filter(|(name, ..)| *name != "cgroup" || hierarchies == 0)
                .map(|(name, ..)| name),
        );
        steps.push(Step::NewNamespaces(new));
        if hierarchies > 0 && self.namespaces.cgroup == Place::New {
            steps.push(Step::NewCgroupNamespace);
        }
        let offsets = self.time_offsets()?;
        steps.extend(offsets.map(Step::TimeOffsets));
        steps.push(Step::Hide);
        steps.push(Step::Rebirth);
        Ok(())
    }

    fn time_offsets(&self) -> Result<Option<String>, PlanError> {
        users::time_offsets(self.bundle, self.linux, &self.namespaces.time)
    }

    /// The namespaces that others made, except for some.
    fn join(&self, but: &[&str], steps: &mut Vec<Step>) {
        for (kind, place, _) in self.namespaces.each() {
            if let Place::Join(path) = place
                && !but.contains(&kind)
                && kind != "user"
            {
                steps.push(Step::JoinNamespace {
                    kind,
                    path: path.clone(),
                });
            }
        }
        // Last: from then on paths are those of that namespace.
        if let Place::Join(path) = &self.namespaces.mount {
            steps.push(Step::JoinNamespace {
                kind: "mount",
                path: path.clone(),
            });
        }
    }

    /// The names of the host.
    fn names(&self, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        for (field, name, step) in [
            (
                "hostname",
                self.bundle.spec.hostname(),
                Step::Hostname as fn(String) -> Step,
            ),
            (
                "domainname",
                self.bundle.spec.domainname(),
                Step::Domainname,
            ),
        ] {
            let Some(name) = name.as_ref().filter(|n| !n.is_empty()) else {
                continue;
            };
            if self.namespaces.uts == Place::Host {
                let why = "needs a uts namespace; without one it would rename the host";
                return Err(self.bundle.invalid(field, why).into());
            }
            steps.push(step(name.clone()));
        }
        Ok(())
    }
}
