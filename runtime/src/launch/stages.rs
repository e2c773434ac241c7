//! What the runtime does for the new process at the stages of a launch: ids, network, hooks,
//! sockets, state.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::spawn::{Child, Heard, Until};
use super::{Agent, Launch, LaunchError, Namespace, hooks, ids, sockets};
use crate::launch::signals::Signals;
use crate::plan::namespaces::{Namespaces, Place};
use crate::plan::{self, Step};
use crate::process::ProcessId;
use crate::report::Message;
use crate::request::{Mode, Network};
use crate::spec::Bundle;
use crate::state::{self, OciState, State, Status};
use crate::{Error, network};

impl Launch<'_> {
    pub(super) fn map_ids(&self, child: &Child) -> Result<(), LaunchError> {
        for step in &self.plan.steps {
            if let Step::MapIds(maps) = step {
                ids::write(child.pid, maps)?;
                child.tell(&Message::Go, None)?;
            }
        }
        Ok(())
    }

    /// The network namespace, if the runtime makes it: the first thing that it does beside the new
    /// process, which waits for it to mount sysfs.
    pub(super) fn new_network(&self, child: &Child) -> Result<Option<OwnedFd>, Error> {
        if !self.plan.steps.contains(&Step::NewNetwork) {
            return Ok(None);
        }
        let tell = |made: BorrowedFd<'_>| child.tell(&Message::Namespace, Some(made));
        network::new_namespace(|made| tell(made).map_err(Error::from)).map(Some)
    }

    /// The network namespace into which something is put, if anything is.
    pub(super) fn network_to_fill(
        &self,
        child: &Child,
        made: Option<OwnedFd>,
    ) -> Result<Option<OwnedFd>, Error> {
        let devices = self.devices().next().is_some();
        if self.network.is_none() && !devices {
            return Ok(None);
        }
        match made {
            Some(made) => Ok(Some(made)),
            // One that belongs to another user namespace the new process made itself.
            None if self.plan.steps.contains(&Step::LoopbackUp) => {
                Ok(Some(open(&format!("/proc/{}/ns/net", child.pid))?))
            }
            None if devices => {
                let joined = self.joined_network();
                let what = "open the network of the container";
                Ok(Some(joined.map_err(|e| LaunchError::system(what, e))?))
            }
            None => Ok(None),
        }
    }

    /// What is in the network of the container.
    pub(super) fn fill_network(&self, child: &Child, namespace: &OwnedFd) -> Result<(), Error> {
        if let (Some(input), Some(facts), Network::Spec(files)) =
            (&self.network, &self.facts.network, &self.request.network)
        {
            let pid = u32::try_from(child.pid).ok();
            let user = self.request.id.as_str();
            input.apply(facts, pid, namespace.as_fd(), &files.server_dir, user)?;
        }
        for (from, to) in self.devices() {
            metactl_netns::device::move_into(from, to, namespace.as_fd())?;
        }
        Ok(())
    }

    /// The devices of a launch that failed are the host's again.
    pub(super) fn take_devices_back(&self, namespace: &OwnedFd) -> Result<(), Error> {
        for (from, to) in self.devices() {
            metactl_netns::device::move_back(from, to, namespace.as_fd())?;
        }
        Ok(())
    }

    fn devices(&self) -> impl Iterator<Item = (&str, &str)> {
        self.plan.steps.iter().filter_map(|step| match step {
            Step::NetDevice { from, to } => Some((from.as_str(), to.as_str())),
            _ => None,
        })
    }

    /// The network namespace that the container joins.
    pub(super) fn joined_network(&self) -> std::io::Result<OwnedFd> {
        let linux = self.bundle.spec.linux().as_ref();
        let path = match (&self.request.network, linux.map(Namespaces::new)) {
            (Network::Join(path), _) => path.clone(),
            (
                _,
                Some(Namespaces {
                    network: Place::Join(path),
                    ..
                }),
            ) => path,
            _ => return Err(std::io::ErrorKind::NotFound.into()),
        };
        super::open::namespace("network", &path).map_err(io::Error::other)
    }

    /// The hooks for which the new process waits before its root takes its place.
    pub(super) fn hooks_before_pivot(
        &self,
        child: &Child,
        state: &State,
        mut signals: Option<&mut Signals>,
        heard: &mut Heard<'_>,
    ) -> Result<(), Error> {
        if !self.plan.steps.contains(&Step::AwaitHooks) {
            return Ok(());
        }
        child.listen(&self.plan, Until::Prepared, signals.as_deref_mut(), heard)?;
        for step in &self.plan.steps {
            let Step::Hooks { kind, hooks } = step else {
                continue;
            };
            let flags = super::exec::namespaces_of(&self.bundle);
            let root = self.bundle.rootfs();
            let namespace = match *kind {
                "createContainer" => Namespace::Of {
                    pidfd: &child.pidfd,
                    root: &root,
                    flags,
                },
                _ => Namespace::Runtime,
            };
            // The oldest kind takes it for created, as it did when there was no other.
            let status = match *kind {
                "prestart" => Status::Created,
                _ => Status::Creating,
            };
            let told = OciState::at(state, status).json();
            hooks::run(kind, hooks, &told, &namespace, signals.as_deref_mut())?;
        }
        child.tell(&Message::Go, None)?;
        Ok(())
    }

    pub(super) fn hooks_after_start(
        &self,
        state: &State,
        signals: Option<&mut Signals>,
    ) -> Result<(), LaunchError> {
        hooks_after_start(&self.bundle, state, signals)
    }

    /// The outer end of the terminal: to the console socket, or back.
    pub(super) fn console(&self, console: Option<OwnedFd>) -> Result<Option<OwnedFd>, LaunchError> {
        let Some(console) = console else {
            return Ok(None);
        };
        match &self.request.console_socket {
            Some(path) => sockets::console(path, &console).map(|()| None),
            None => Ok(Some(console)),
        }
    }

    /// Hands the descriptor of a filter that asks to its agent.
    pub(super) fn ask_agent(
        &self,
        child: &Child,
        fd: i32,
        state: &State,
    ) -> Result<(), LaunchError> {
        let agent = agent(&self.bundle)?;
        let status = match self.request.mode {
            Mode::Create => Status::Created,
            Mode::Foreground | Mode::Detached => Status::Creating,
        };
        agent.hand_over(&child.pidfd, fd, child.pid, &OciState::at(state, status))
    }

    pub(super) fn state(&self, process: &ProcessId) -> State {
        let annotations = self.bundle.spec.annotations().iter().flatten();
        let create = self.request.mode == Mode::Create;
        let spaces = self.bundle.spec.linux().as_ref();
        let spaces = spaces.map(Namespaces::new).unwrap_or_default();
        State {
            format: state::FORMAT,
            id: self.request.id.to_string(),
            bundle: self.bundle.dir.clone(),
            created: state::now_rfc3339(),
            started: !create,
            process: Some(process.clone()),
            cgroups: self.plan.cgroup.members().to_vec(),
            scope: self.scope().map(|scope| state::ScopeRecord {
                unit: scope.unit.clone(),
                user: scope.user,
                path: scope.cgroup_path(&self.facts.scopes_below),
            }),
            init: self.plan.init,
            annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
            hooks: plan::hooks::any(&self.bundle),
            shared_pids: spaces.pid != Place::New,
            tracers: false,
            keyring: self.plan.steps.iter().find_map(|step| match step {
                Step::Keyring(name) => Some(name.clone()),
                _ => None,
            }),
            // Who starts it has no plan to look a failed step up in.
            steps: if create {
                self.plan.steps.iter().map(ToString::to_string).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// The hooks that come when the program runs.
pub(crate) fn hooks_after_start(
    bundle: &Bundle,
    state: &State,
    signals: Option<&mut Signals>,
) -> Result<(), LaunchError> {
    let list = plan::hooks::of(bundle, "poststart");
    let told = OciState::at(state, Status::Running).json();
    hooks::run("poststart", &list, &told, &Namespace::Runtime, signals)
}

/// Who decides for the filter of the container.
pub(crate) fn agent(bundle: &Bundle) -> Result<Agent, LaunchError> {
    let linux = bundle.spec.linux().as_ref();
    let section = linux.and_then(|l| l.seccomp().as_ref());
    let path = section.and_then(|s| s.listener_path().clone());
    let missing = || {
        let what = "find the agent of the filter: linux.seccomp.listenerPath is not set";
        LaunchError::system(what, rustix::io::Errno::NOENT)
    };
    Ok(Agent {
        path: path.ok_or_else(missing)?,
        metadata: section
            .and_then(|s| s.listener_metadata().clone())
            .unwrap_or_default(),
    })
}

fn open(path: &str) -> Result<OwnedFd, LaunchError> {
    let file = File::open(path);
    file.map(OwnedFd::from)
        .map_err(|e| LaunchError::system(format!("open {path}"), e))
}
