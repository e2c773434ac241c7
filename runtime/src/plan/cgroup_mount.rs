//! The control groups that a container sees.

use std::path::PathBuf;

use crate::cgroup::{CgroupPlan, Layout};
use crate::plan::mounts::{self, MountKind, MountStep};
use crate::plan::step::Step;
use crate::sys::MountAttr;

/// A mount of the control groups: v2 is one file system, v1 one for each hierarchy that the
/// container is in, below a tmpfs. Hierarchies that it did not join are not shown: there the
/// root of its view would be the cgroup of the runtime. `private` says whether it has a cgroup
/// namespace of its own.
pub fn steps(
    asked: &MountStep,
    cgroup: &CgroupPlan,
    layout: Option<&Layout>,
    private: bool,
    steps: &mut Vec<Step>,
) {
    let v1 = match layout {
        Some(Layout::V1(v1) | Layout::Hybrid(v1, _)) => v1.as_slice(),
        Some(Layout::V2(_)) | None => {
            let kind = MountKind::New {
                fstype: "cgroup2".into(),
                source: Some("cgroup".into()),
                parameters: Vec::new(),
            };
            steps.push(Step::Mount(MountStep {
                kind,
                ..asked.clone()
            }));
            return;
        }
    };
    let target = &asked.target;
    steps.push(Step::Mount(mounts::plain(
        target,
        "tmpfs",
        &["nosuid", "nodev", "noexec", "mode=755"],
    )));
    for hierarchy in v1 {
        let Some(name) = hierarchy.mount_point.file_name() else {
            continue;
        };
        let joined = |dir: &&PathBuf| dir.starts_with(&hierarchy.mount_point);
        let Some(own) = cgroup.directories().iter().find(joined) else {
            continue;
        };
        let place = target.join(name);
        let kind = if !private {
            MountKind::Bind {
                source: own.clone(),
                recursive: false,
            }
        } else {
            let words = hierarchy.controllers.iter();
            let parameters = words.map(|word| match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.clone(), None),
            });
            MountKind::New {
                fstype: "cgroup".into(),
                source: Some("cgroup".into()),
                parameters: parameters.collect(),
            }
        };
        let attributes = asked.attributes;
        steps.push(Step::Mount(MountStep {
            target: place,
            kind,
            attributes,
            ..asked.clone()
        }));
        for word in &hierarchy.controllers {
            if !word.contains('=') && Some(word.as_str()) != name.to_str() {
                let target = name.to_string_lossy().into_owned();
                steps.push(Step::Link {
                    path: asked.target.join(word),
                    target,
                });
            }
        }
    }
    if asked.attributes.own.set & libc::MOUNT_ATTR_RDONLY != 0 {
        let attr = MountAttr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        steps.push(Step::Attributes {
            path: target.clone(),
            attr,
        });
    }
}
