//! The errors of this crate: what failed, on what, why, and what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use metactl_bundles::bundle::BundleError;
use metactl_bundles::diagnostics::Report;
use metactl_bundles::edit::EditError;

/// The result of everything here.
pub type Result<T, E = LifecycleError> = std::result::Result<T, E>;

/// The kinds of failure that callers tell apart: each is one exit code of `metactl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It was tried and failed.
    Failed,
    /// A deployment failed and the previous release runs again.
    RolledBack,
    /// The request cannot be understood.
    Usage,
    /// Something needed is not there: an instance, a release, a tool.
    Unavailable,
    /// A privilege is missing.
    NotPermitted,
    /// The configuration is wrong; nothing was changed.
    Configuration,
}

impl Class {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Class::Failed => 1,
            Class::RolledBack => 10,
            Class::Usage => 64,
            Class::Unavailable => 69,
            Class::NotPermitted => 77,
            Class::Configuration => 78,
        }
    }
}

/// The end of something that did not go well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(#[from] Report),
    /// The configuration does not fit this server or this release.
    #[error("{0}")]
    Unfit(Report),
    /// What was asked about the configuration cannot be: a key that there is not, for example.
    #[error("{0}")]
    Question(Report),
    /// A bundle could not be composed, written or read.
    #[error(transparent)]
    Bundle(BundleError),
    /// A name that no instance can have.
    #[error("{name:?} cannot be the name of an instance: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody has heard of the instance.
    #[error("there is no instance {name:?} on this server")]
    UnknownInstance {
        /// The name.
        name: String,
        /// The most similar one that there is.
        similar: Option<String>,
        /// The local layer that would make it one.
        local_layer: PathBuf,
    },
    /// The instance has a local layer, and no release yet.
    #[error("{instance} is not deployed")]
    NotDeployed {
        /// The instance.
        instance: String,
    },
    /// The instance has no such entry point.
    #[error("{instance} has no entry point {entry:?}; it has: {}", known.join(", "))]
    UnknownEntry {
        /// The instance.
        instance: String,
        /// The name.
        entry: String,
        /// The names that it has.
        known: Vec<String>,
    },
    /// One daemon is meant, and none was named.
    #[error(
        "{instance} has several daemons: {names}; say which one: metactl run {instance} {first}"
    )]
    SeveralDaemons {
        /// The instance.
        instance: String,
        /// All of them.
        names: String,
        /// One of them.
        first: String,
    },
    /// Something must run for this, and does not.
    #[error("{what} does not run")]
    NotRunning {
        /// The instance or the entry point.
        what: String,
        /// What starts it.
        hint: String,
    },
    /// Root is needed.
    #[error("{what} needs root")]
    NotPermitted {
        /// What was to be done.
        what: String,
    },
    /// Whoever asks may not.
    #[error("{what}")]
    Refused {
        /// Who may not what, and why.
        what: String,
        /// What would allow it.
        hint: String,
    },
    /// Root, or the group `metactl`, is needed.
    #[error("{what} needs root or membership of the group metactl")]
    NoReader {
        /// What was to be read.
        what: String,
    },
    /// Something else than configuration is missing.
    #[error("{what}")]
    Unavailable {
        /// What, and why it is needed.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A setting that the request needs is missing or wrong.
    #[error("{what}")]
    Setting {
        /// Which, and why it is needed.
        what: String,
        /// The line that would do.
        hint: String,
    },
    /// A request that cannot be.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A change of the local layer that cannot be made.
    #[error("{what}")]
    Edit {
        /// What is in the way.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A key that nothing gives a value.
    #[error("[{section}] {key} is not set, and has no default")]
    NoValue {
        /// The section.
        section: String,
        /// The key.
        key: String,
    },
    /// What is to be made is there already.
    #[error("there is an instance {name:?} already: {what}")]
    Exists {
        /// The name.
        name: String,
        /// What there is of it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Somebody else is changing the instance.
    #[error("{instance} is being changed by {holder}")]
    Locked {
        /// The instance.
        instance: String,
        /// Who, since when, with which command.
        holder: String,
    },
    /// A file or directory.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was to be done with it.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of metactl's own records cannot be understood.
    #[error("{}: {why}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An address or a port is already taken.
    #[error("{what} is already taken: {holder}")]
    Taken {
        /// `address 192.168.0.5`, `port 80 of daemon webapp`.
        what: String,
        /// By whom.
        holder: String,
        /// What to change.
        hint: String,
    },
    /// Nothing is left of a range or pool.
    #[error("{what} is used up")]
    UsedUp {
        /// The range or pool.
        what: String,
        /// What to change.
        hint: String,
    },
    /// Fetching from version control failed.
    #[error("cannot {action} {repo}: {why}")]
    Source {
        /// What was to be done.
        action: String,
        /// The repository, without its password.
        repo: String,
        /// What the tool said.
        why: String,
        /// What to do.
        hint: String,
    },
    /// No such tag, branch or commit.
    #[error("{repo} has no tag, branch or commit {tag:?}")]
    UnknownTag {
        /// The repository, without its password.
        repo: String,
        /// What was asked for.
        tag: String,
        /// The newest tags that there are.
        known: Vec<String>,
    },
    /// A word that no revision can be called.
    #[error("{tag:?} cannot be the name of a tag, branch or commit")]
    BadTag {
        /// The word.
        tag: String,
    },
    /// A tag that nobody signed who may.
    #[error("the tag {tag:?} is not signed by anybody who may: {why}")]
    Unsigned {
        /// The tag.
        tag: String,
        /// What is wrong with its signature.
        why: String,
    },
    /// A tag that means something else than it did.
    #[error("the tag {tag:?} was moved: {release} was made from {before}, and now it is {now}")]
    TagMoved {
        /// The tag.
        tag: String,
        /// The release that was made from it.
        release: String,
        /// The commit that it was.
        before: String,
        /// The commit that it is.
        now: String,
        /// The instance.
        instance: String,
    },
    /// The build command failed.
    #[error("the build failed: {command}{}: {why}", written_at(origin.as_deref()))]
    Build {
        /// The command, as written.
        command: String,
        /// Where it was written.
        origin: Option<String>,
        /// Exit code, signal or timeout.
        why: String,
        /// Its whole output.
        log: PathBuf,
        /// The last lines of it.
        tail: Vec<String>,
    },
    /// What the build made cannot be a release.
    #[error("the output of the build cannot be a release: {what}")]
    Release {
        /// The path in the output, and what is wrong with it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// An entry point did not come up.
    #[error("{entry} did not come up: {why}")]
    Start {
        /// The entry point.
        entry: String,
        /// What it did instead.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: Vec<String>,
    },
    /// An entry point, or the supervisor, did not end.
    #[error("{what} did not stop within {seconds} s")]
    Stop {
        /// Which.
        what: String,
        /// How long was waited.
        seconds: u64,
        /// The log of the supervisor.
        log: PathBuf,
    },
    /// The supervisor of an instance does not do its work.
    #[error("the supervisor of {instance} {why}")]
    Supervisor {
        /// The instance.
        instance: String,
        /// What it did.
        why: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: Vec<String>,
    },
    /// The service manager of the server did not do its part.
    #[error("cannot {what}: {why}")]
    ServiceManager {
        /// What it was to do, on what.
        what: String,
        /// What it said.
        why: String,
    },
    /// `metactl-runtime` failed.
    #[error("metactl-runtime {verb}: {why}")]
    Runtime {
        /// What it was to do, on what.
        verb: String,
        /// What it said.
        why: String,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] metactl_netns::NetError),
    /// Records of containers.
    #[error(transparent)]
    Container(#[from] metactl_runtime::Error),
    /// A deployment failed after the switch; what ran before runs again.
    #[error("{cause}")]
    RolledBack {
        /// What failed.
        cause: Box<LifecycleError>,
        /// What runs again: a release, or nothing.
        back: String,
    },
    /// A deployment failed, and so did the way back.
    #[error("{cause}; and going back to {back} failed: {why}")]
    NotRolledBack {
        /// What failed first.
        cause: Box<LifecycleError>,
        /// What should run.
        back: String,
        /// Why it does not.
        why: Box<LifecycleError>,
    },
}

impl LifecycleError {
    /// The kind of failure, which decides the exit code.
    pub fn class(&self) -> Class {
        match self {
            LifecycleError::Configuration(_)
            | LifecycleError::Setting { .. }
            | LifecycleError::Edit { .. }
            | LifecycleError::UsedUp { .. }
            | LifecycleError::Taken { .. } => Class::Configuration,
            LifecycleError::Question(_)
            | LifecycleError::Usage { .. }
            | LifecycleError::BadName { .. }
            | LifecycleError::Exists { .. }
            | LifecycleError::BadTag { .. }
            | LifecycleError::SeveralDaemons { .. }
            | LifecycleError::UnknownEntry { .. } => Class::Usage,
            LifecycleError::UnknownInstance { .. }
            | LifecycleError::NotDeployed { .. }
            | LifecycleError::Unfit(_)
            | LifecycleError::NotRunning { .. }
            | LifecycleError::Unavailable { .. } => Class::Unavailable,
            LifecycleError::NotPermitted { .. }
            | LifecycleError::Refused { .. }
            | LifecycleError::NoReader { .. } => Class::NotPermitted,
            LifecycleError::RolledBack { .. } => Class::RolledBack,
            _ => Class::Failed,
        }
    }

    /// What to do next, if there is more to say than the message says.
    pub fn hint(&self) -> Option<String> {
        match self {
            LifecycleError::UnknownInstance {
                name,
                similar,
                local_layer,
            } => Some(match similar {
                Some(similar) => format!("did you mean {similar}?"),
                None => format!(
                    "metactl new {name} REPO makes one (it writes {}), then: metactl {name} deploy",
                    local_layer.display()
                ),
            }),
            LifecycleError::NotDeployed { instance } => Some(format!("metactl {instance} deploy")),
            LifecycleError::NotPermitted { .. } => Some("run it again with sudo".to_owned()),
            LifecycleError::NoReader { .. } => Some(
                "run it again with sudo; or root makes you a member: usermod -aG metactl YOU (it counts from \
                 the next login)"
                    .to_owned(),
            ),
            LifecycleError::Locked { .. } => Some("try again when that is done".to_owned()),
            LifecycleError::UnknownTag { known, .. } if known.is_empty() => {
                Some("it has no tags at all; a branch or a commit will do".to_owned())
            }
            LifecycleError::UnknownTag { known, .. } => {
                Some(format!("the newest tags are: {}", known.join(", ")))
            }
            LifecycleError::NotRunning { hint, .. }
            | LifecycleError::Unavailable { hint, .. }
            | LifecycleError::Setting { hint, .. }
            | LifecycleError::Usage { hint, .. }
            | LifecycleError::Refused { hint, .. }
            | LifecycleError::Edit { hint, .. }
            | LifecycleError::Exists { hint, .. }
            | LifecycleError::Taken { hint, .. }
            | LifecycleError::UsedUp { hint, .. }
            | LifecycleError::Source { hint, .. }
            | LifecycleError::Release { hint, .. } => (!hint.is_empty()).then(|| hint.clone()),
            LifecycleError::Unsigned { .. } => Some(
                "[build] verify.gpg and verify.ssh name the files with the keys of those who may"
                    .to_owned(),
            ),
            LifecycleError::TagMoved { instance, tag, .. } => Some(format!(
                "nothing has changed here; if it is meant: metactl {instance} deploy --moved {tag}"
            )),
            LifecycleError::NoValue { section, .. } => Some(format!(
                "metactl APP show {section} prints what is set there"
            )),
            LifecycleError::Record { .. } => Some(
                "it is metactl's own record; move it away if no older or newer metactl needs it"
                    .to_owned(),
            ),
            LifecycleError::RolledBack { cause, back } => {
                let again = format!("as before: {back}");
                Some(
                    cause
                        .hint()
                        .map_or(again.clone(), |hint| format!("{hint}\n{again}")),
                )
            }
            LifecycleError::NotRolledBack { .. } => {
                Some("look at the log, then: metactl APP start".to_owned())
            }
            _ => None,
        }
    }

    /// The last lines of the log that belongs to the failure.
    pub fn tail(&self) -> &[String] {
        match self {
            LifecycleError::Build { tail, .. }
            | LifecycleError::Start { tail, .. }
            | LifecycleError::Supervisor { tail, .. } => tail,
            LifecycleError::RolledBack { cause, .. }
            | LifecycleError::NotRolledBack { cause, .. } => cause.tail(),
            _ => &[],
        }
    }

    /// The log that tells more.
    pub fn log(&self) -> Option<&Path> {
        match self {
            LifecycleError::Build { log, .. }
            | LifecycleError::Start { log, .. }
            | LifecycleError::Stop { log, .. }
            | LifecycleError::Supervisor { log, .. } => Some(log),
            LifecycleError::RolledBack { cause, .. }
            | LifecycleError::NotRolledBack { cause, .. } => cause.log(),
            _ => None,
        }
    }

    /// The report on the configuration, to be rendered with colours, when that is what it is.
    pub fn report(&self) -> Option<&Report> {
        match self {
            LifecycleError::Configuration(report)
            | LifecycleError::Unfit(report)
            | LifecycleError::Question(report) => Some(report),
            LifecycleError::RolledBack { cause, .. }
            | LifecycleError::NotRolledBack { cause, .. } => cause.report(),
            _ => None,
        }
    }
}

impl From<EditError> for LifecycleError {
    fn from(error: EditError) -> LifecycleError {
        match error {
            EditError::Faulty(report) => LifecycleError::Configuration(report),
            other => LifecycleError::Edit {
                what: other.to_string(),
                hint: other.hint().unwrap_or_default().to_owned(),
            },
        }
    }
}

impl From<BundleError> for LifecycleError {
    fn from(error: BundleError) -> LifecycleError {
        match error {
            BundleError::Refused(report) => LifecycleError::Unfit(report),
            other => LifecycleError::Bundle(other),
        }
    }
}

impl From<metactl_runtime::journal::JournalError> for LifecycleError {
    fn from(error: metactl_runtime::journal::JournalError) -> LifecycleError {
        LifecycleError::Container(error.into())
    }
}

impl From<metactl_runtime::state::StateError> for LifecycleError {
    fn from(error: metactl_runtime::state::StateError) -> LifecycleError {
        LifecycleError::Container(error.into())
    }
}

/// Adds the path and what was to be done to an error of the system.
pub(crate) trait OnPath<T> {
    /// `action` is a verb: `read`, `write`.
    fn on(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> OnPath<T> for std::result::Result<T, E> {
    fn on(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| LifecycleError::File {
            action,
            path: path.to_path_buf(),
            source: error.into(),
        })
    }
}

fn written_at(origin: Option<&str>) -> impl fmt::Display {
    origin.map_or_else(String::new, |origin| format!(" ({origin})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rolled_back_tells_the_cause_and_what_runs() {
        let cause = LifecycleError::Start {
            entry: "web".to_owned(),
            why: "it ended with exit code 3".to_owned(),
            log: "/var/log/metactl/a/web.log".into(),
            tail: vec!["no database".to_owned()],
        };
        let error = LifecycleError::RolledBack {
            cause: Box::new(cause),
            back: "1.2.3 runs".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "web did not come up: it ended with exit code 3"
        );
        assert_eq!(error.class().code(), 10);
        assert_eq!(error.tail(), ["no database"]);
        assert_eq!(error.hint().unwrap(), "as before: 1.2.3 runs");
    }

    #[test]
    fn errors_of_files_name_the_file() {
        let missing: std::result::Result<(), _> = Err(io::Error::from(io::ErrorKind::NotFound));
        let error = missing.on("read", Path::new("/x/y")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /x/y: "));
        assert_eq!(error.class(), Class::Failed);
    }
}
