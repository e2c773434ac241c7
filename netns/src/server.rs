//! What all instances share on the server.

use std::path::Path;

use crate::NetError;

/// Gives back what `user` needed; the last user of something switches it off. Harmless for an unknown user.
pub fn release(server_dir: &Path, user: &str) -> Result<(), NetError> {
    let _ = (server_dir, user);
    Err(NetError::Unsupported {
        what: "release".into(),
        hint: String::new(),
    })
}

/// The users that have not released: compare with what runs, and release those that are gone.
pub fn users(server_dir: &Path) -> Result<Vec<String>, NetError> {
    let _ = server_dir;
    Ok(Vec::new())
}
