//! Who may do what, and the trail of what was done.
//!
//! Root may everything. As soon as any site or local layer of this server has a section `[access]`, a person who
//! became root by `sudo` may only what such a section says, of every instance and of the server; members of the group
//! `metactl` may look. The sections that count are those of the server itself (`/etc/metactl`), whatever directories
//! the command names: who is restricted there can name no others, and nothing of their environment reaches what runs
//! as root.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`verbs`] | the table of verbs |
//! | `standing` | what a person may |
//! | `environment` | what is left of a person's environment |
//! | `trail` | who did what: the file |
//! | `origin` | from which terminal and machine |
//! | `shared` | what members of the group `metactl` may read |

mod environment;
mod origin;
pub(crate) mod shared;
mod standing;
pub(crate) mod trail;
pub mod verbs;

use std::time::Instant;

use metactl_bundles::paths::Paths;
use nix::unistd::User;

use crate::error::{LifecycleError, Result};
use crate::manager::Manager;
use crate::names;
use crate::person::{Asker, Person, asker, login_uid};
use standing::{delegates, standing};
use trail::{Begun, Trail};
use verbs::Kind;

/// What somebody wants done.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The verb, by the name in the table.
    pub verb: &'a str,
    /// What stands on the command line besides the verb and the instance.
    pub words: &'a [String],
    /// The instance.
    pub instance: Option<&'a str>,
    /// Whether another root directory was named on the command line.
    pub moved: bool,
}

/// Something that is being done, until [`Turn::end`].
#[derive(Debug)]
pub struct Turn {
    begun: Option<(Trail, Begun)>,
    since: Instant,
}

impl Manager {
    /// Finds out whether whoever asks may have this done, and writes down that it begins. Who is refused is written
    /// down too. Does not return, but begins anew, when the environment of a restricted person has to be cleaned.
    ///
    /// # Errors
    /// [`LifecycleError::Refused`]; and for a restricted person everything that keeps it from being known or recorded.
    pub fn begin(&self, request: &Request<'_>) -> Result<Turn> {
        let restricted = match self.admit(request) {
            Ok(restricted) => restricted,
            Err(error) => {
                self.record_refusal(request, &error);
                return Err(error);
            }
        };
        let since = Instant::now();
        if !verbs::is_recorded(request.verb, request.words).0 {
            return Ok(Turn { begun: None, since });
        }
        let trail = Trail::of(&self.paths);
        let begun = Begun::now(request);
        match trail.begin(&begun) {
            Ok(()) => Ok(Turn {
                begun: Some((trail, begun)),
                since,
            }),
            // What stops something works on a full disk too; and whoever may everything can do without.
            Err(error) if restricted && !["stop", "rollback"].contains(&request.verb) => Err(error),
            Err(error) => {
                warn(&error);
                Ok(Turn { begun: None, since })
            }
        }
    }

    /// Whether who asks is restricted, and may do this.
    fn admit(&self, request: &Request<'_>) -> Result<bool> {
        let person = match asker() {
            Asker::Nobody => return Ok(false),
            Asker::Somebody(uid) => Ok(uid),
            Asker::Unclear(why) => Err(why),
        };
        let mut relocations = environment::relocations();
        if request.moved {
            relocations.push("--root".to_owned());
        }
        let server = Paths::under("/".as_ref());
        let moved = !relocations.is_empty();
        for paths in [&server, &self.paths]
            .into_iter()
            .take(1 + usize::from(moved))
        {
            if !delegates(paths)? {
                continue;
            }
            let uid = person
                .clone()
                .map_err(|why| refused(format!("it is not clear who asks: {why}")))?;
            let account = verified(uid)?;
            let kind = verbs::kind(request.verb, request.words);
            if kind == Kind::Explain {
                return Ok(true);
            }
            if let Some(name) = request.instance {
                names::check(name)?;
            }
            let may = standing(paths, request.instance, &account)?;
            if may == Some(Kind::Administer) {
                continue;
            }
            if moved && paths == &server {
                return Err(LifecycleError::Refused {
                    what: format!(
                        "{} may not name another place for metactl ({})",
                        account.name,
                        relocations.join(", ")
                    ),
                    hint: "leave it out; [access] of this server counts".to_owned(),
                });
            }
            if may.is_none_or(|may| may < kind) {
                return Err(standing::refusal(request, &account, kind, may));
            }
            environment::clean(moved)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn record_refusal(&self, request: &Request<'_>, error: &LifecycleError) {
        // Where a restricted person wanted it to be recorded does not count.
        let asked_elsewhere = request.moved || !environment::relocations().is_empty();
        let server = Paths::under("/".as_ref());
        let paths = match asked_elsewhere && delegates(&server).unwrap_or(true) {
            true => &server,
            false => &self.paths,
        };
        if let Err(error) = Trail::of(paths).refused(&Begun::now(request), error) {
            warn(&error);
        }
    }
}

impl Turn {
    /// Writes down how it ended: the exit code, and for a failure what was said.
    pub fn end(self, exit: u8, error: Option<&str>) {
        let Some((trail, begun)) = self.begun else {
            return;
        };
        // What became another program never comes here, unless that failed.
        if let Err(error) = trail.end(&begun, exit, error, self.since.elapsed()) {
            warn(&error);
        }
    }
}

/// The account behind sudo, if nothing speaks against it.
fn verified(uid: nix::unistd::Uid) -> Result<User> {
    let unclear = |why: String| refused(format!("it is not clear who asks: {why}"));
    let account = User::from_uid(uid)
        .map_err(|error| unclear(format!("user id {uid}: {error}")))?
        .ok_or_else(|| unclear(format!("user id {uid} has no account")))?;
    if let Ok(name) = std::env::var("SUDO_USER") {
        let named = User::from_name(&name).ok().flatten();
        if named.is_none_or(|named| named.uid != uid) {
            return Err(unclear(format!("SUDO_USER says {name:?}, SUDO_UID {uid}")));
        }
    }
    match login_uid() {
        // Root who became somebody has more rights than they.
        Some(login) if login != uid && !login.is_root() => Err(unclear(format!(
            "{} asks, but user id {login} logged in",
            account.name
        ))),
        _ => Ok(account),
    }
}

fn refused(what: String) -> LifecycleError {
    LifecycleError::Refused {
        what,
        hint: "log in as yourself and use sudo from there".to_owned(),
    }
}

/// Says on standard error what could not be recorded; who is not root has no trail to write.
fn warn(error: &LifecycleError) {
    if nix::unistd::geteuid().is_root() {
        eprintln!("warning: not recorded for `history`: {error}");
    }
}

/// Who asks, for the trail: login name and user id.
pub(crate) fn who() -> (String, u32) {
    let person = Person::behind();
    (person.login, person.uid.as_raw())
}
