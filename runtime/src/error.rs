//! The error of the library as a whole.

use crate::cgroup::CgroupError;
use crate::compile::CompileError;
use crate::id::IdError;
use crate::journal::JournalError;
use crate::launch::LaunchError;
use crate::network::NetworkError;
use crate::plan::PlanError;
use crate::spec::SpecError;
use crate::state::StateError;
use crate::systemd::SystemdError;

/// Anything that can go wrong. Match on the variants; show with `Display` (one sentence that says
/// what failed, on what, why, and what to do next).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a container id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The bundle.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There is no plan for it on this host.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The systemd cgroup driver.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A step of the launch.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The state of a container.
    #[error(transparent)]
    State(#[from] StateError),
    /// The record of what must be undone.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Error {
    /// The exit code of a command that fails with this: 77 not permitted, 78 configuration,
    /// 64 usage, 1 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Id(_) => 64,
            Error::Plan(PlanError::NotRoot { .. }) => 77,
            Error::Spec(SpecError::Read { .. }) => 1,
            // The bundle is in order, the host is not.
            Error::Plan(PlanError::Cgroup(CgroupError::NotDelegated { .. })) => 1,
            Error::Spec(_) | Error::Plan(_) | Error::Compile(_) => 78,
            Error::Network(NetworkError::Parse { .. } | NetworkError::Format { .. }) => 78,
            _ => 1,
        }
    }
}

impl From<crate::capabilities::UnknownCapability> for Error {
    fn from(error: crate::capabilities::UnknownCapability) -> Error {
        Error::Plan(error.into())
    }
}

impl From<metactl_netns::NetError> for Error {
    fn from(error: metactl_netns::NetError) -> Error {
        Error::Network(NetworkError::Net(error))
    }
}
