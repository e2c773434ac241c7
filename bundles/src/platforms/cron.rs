//! A line of `[crontab]`: `/bin/sh -c command`, in the release, with the environment of the
//! instance.

use std::path::PathBuf;

use super::APP_DIR;
use crate::app::{JavaNeed, Launch};
use crate::layers::Origin;
use crate::text::{Str, words};

/// The launch of a line of `[crontab]`.
///
/// A command that starts with `java` needs a Java of the host, like a daemon of platform `jvm`.
pub fn cron(command: &str, origin: &Origin) -> Launch {
    let java = (words(command).next() == Some("java")).then(|| JavaNeed {
        origin: Some(origin.clone()),
        ..JavaNeed::default()
    });
    Launch {
        platform: Str::built_in("cron"),
        args: vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()],
        cwd: PathBuf::from(APP_DIR),
        java,
        ..Launch::default()
    }
}
