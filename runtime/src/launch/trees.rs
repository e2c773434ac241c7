//! Trees of the host for a process that may not get at them, on kernels without the calls for it
//! (`docs/kernels.md`): by a helper, a process with the rights of the runtime and a mount namespace
//! in which it can mount what it will, so that nothing is ever mounted on the host.
//!
//! * With open_tree(2) (Linux 5.2), but not mount_setattr(2) (5.12): in a namespace of its own. A
//!   clone of what was mounted and changed there can be carried anywhere.
//! * Without either, mounts cannot leave their namespace. The helper goes into that of the new
//!   process, opens each tree when it is asked for, and hands over a descriptor of it. All mounts
//!   there are locked together (mount_namespaces(7)), which the kernel asks of whoever is less
//!   privileged than the host; so what the host's mounts forbid cannot be allowed again.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::Error;
use crate::compile::offers;
use crate::launch::LaunchError;
use crate::launch::signals::Signals;
use crate::launch::spawn::{self, Birth, Child};
use crate::plan::{Plan, Step};
use crate::report::{self, Message};

/// Where a helper mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a mount namespace of its own.
    Aside,
    /// In that of the new process.
    InTheContainer,
}

/// The trees of a launch.
#[derive(Debug)]
pub struct Trees {
    /// Those that are open.
    pub opened: Vec<OwnedFd>,
    /// To who opens them when asked.
    pub helper: Option<OwnedFd>,
    _process: Option<Helper>,
}

impl Trees {
    /// They are open.
    pub fn opened(opened: Vec<OwnedFd>) -> Trees {
        Trees {
            opened,
            helper: None,
            _process: None,
        }
    }
}

/// Ends with this at the latest.
#[derive(Debug)]
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        // It has nothing that would stay; whether it still was there does not matter.
        let _ = self.0.kill();
    }
}

/// Has the trees of `plan` opened by a helper.
pub fn by_helper(
    plan: &Plan,
    propagation: u64,
    way: Way,
    mut signals: Option<&mut Signals>,
) -> Result<Trees, Error> {
    check(plan, way)?;
    let program = offers(plan, propagation, way == Way::InTheContainer)?;
    let count = plan.steps.iter().filter(|step| is_prepared(step)).count();
    let helper = Helper(spawn::spawn(program, &Birth::default())?);
    if way == Way::InTheContainer {
        let socket = helper.0.socket.try_clone();
        let socket = socket.map_err(|e| LaunchError::system("talk to the helper for mounts", e))?;
        return Ok(Trees {
            opened: Vec::new(),
            helper: Some(socket),
            _process: Some(helper),
        });
    }
    let mut opened = Vec::with_capacity(count);
    while opened.len() < count {
        if let Some(signals) = signals.as_deref_mut() {
            spawn::wait_readable(&helper.0.socket, signals)?;
        }
        let message = report::receive(&helper.0.socket)
            .map_err(|e| LaunchError::system("listen to the helper for mounts", e))?;
        match message {
            Some((Message::Tree, Some(tree))) => opened.push(tree),
            Some((Message::Fault { step, fault }, _)) => {
                return Err(LaunchError::fault(plan, step, &fault).into());
            }
            Some(_) => {
                let odd = LaunchError::system("understand the helper for mounts", Errno::PROTO);
                return Err(odd.into());
            }
            None => return Err(LaunchError::Died("; it was a helper for its mounts").into()),
        }
    }
    Ok(Trees::opened(opened))
}

fn is_prepared(step: &Step) -> bool {
    match step {
        Step::Root { prepared, .. } => *prepared,
        Step::Mount(mount) => mount.prepared,
        _ => false,
    }
}

/// What there is no older way for.
fn check(plan: &Plan, way: Way) -> Result<(), LaunchError> {
    for step in &plan.steps {
        let what = match step {
            Step::Mount(mount) if mount.ids.is_some() => {
                format!("map the ids (needs Linux 5.12; leave its mappings out): {mount}")
            }
            // Its paths are not those of the host.
            Step::JoinNamespace { kind: "mount", .. } if way == Way::InTheContainer => {
                format!("{step} with a user namespace (needs Linux 5.2; leave its path out)")
            }
            _ => continue,
        };
        return Err(LaunchError::system(what, Errno::NOSYS));
    }
    Ok(())
}
