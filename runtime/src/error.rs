//! The error of the library as a whole.

use crate::id::IdError;
use crate::journal::JournalError;
use crate::state::StateError;

/// Anything that can go wrong. Match on the variants; show with `Display` (one sentence that says
/// what failed, on what, why, and what to do next).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a container id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The state of a container.
    #[error(transparent)]
    State(#[from] StateError),
    /// The record of what must be undone.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
