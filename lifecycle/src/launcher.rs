//! The command line of `metactl-runtime`.

use std::path::PathBuf;

/// The name of the program.
const PROGRAM: &str = "metactl-runtime";

/// `METACTL_RUNTIME`, else the one beside this program, else the one in `PATH`.
pub(crate) fn find_runtime() -> PathBuf {
    if let Some(path) = std::env::var_os("METACTL_RUNTIME") {
        return path.into();
    }
    let beside = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name(PROGRAM));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PROGRAM.into())
}
