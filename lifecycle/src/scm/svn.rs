//! Subversion, by its command line.
//!
//! The usual layout is understood: `tags/NAME`, `branches/NAME`, `trunk`; also `r123` (of the trunk),
//! and a repository without a layout. What protects the server from a hostile repository:
//!
//! - names are checked before svn sees them, and never stand where an option could stand;
//! - the settings are ours: none, so that there are no tunnels but `svn+ssh` and no stored passwords;
//! - externals are not followed: a repository does not decide what else is fetched;
//! - a password is on no command line: svn reads it from its standard input.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use metactl_bundles::redact::{has_password, redact};

use super::login::{self, Login};
use super::{Revision, Settings, cache_name, command, git, printable, said};
use crate::error::{LifecycleError, Result};
use crate::files;

/// How long fetching may take.
const FETCH: Duration = Duration::from_secs(15 * 60);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(2 * 60);
/// How svn says that there is nothing at a URL (svn_error_codes.h).
const ABSENT: &[&str] = &["E160013", "E200009", "W160013", "E170000", "W170000"];

/// A repository.
#[derive(Debug)]
pub(crate) struct Subversion {
    /// The URL above `trunk`, without a password.
    url: String,
    /// Who asks, when not ssh.
    login: Login,
    /// Where ssh listens.
    port: Option<u16>,
    settings: Box<Settings>,
    /// The settings of svn: an empty folder.
    config: PathBuf,
}

/// What a name stands for: a URL and a revision of it.
#[derive(Debug)]
struct Place {
    url: String,
    revision: String,
}

impl Subversion {
    pub(super) fn new(settings: &Settings, cache: PathBuf) -> Result<Subversion> {
        let repo = settings.repo.as_str();
        let unusable = |why: &str| LifecycleError::Setting {
            what: format!("[build] repo = {}: {why}", redact(repo)),
            hint: "svn://, svn+ssh://, svn+https://, svn+http:// or svn+file:///".to_owned(),
        };
        let (scheme, rest) = repo.split_once("://").ok_or_else(|| unusable("no URL"))?;
        let scheme = match scheme {
            "svn" | "svn+ssh" => scheme,
            "svn+http" => "http",
            "svn+https" => "https",
            "svn+file" => "file",
            _ => return Err(unusable("this way to reach a repository is not known")),
        };
        if rest.is_empty() || rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(unusable("it cannot be a repository"));
        }
        // Taken out, because a URL stands on the command line.
        let taken = login::take_out(rest);
        let (rest, login) = taken
            .filter(|(rest, _)| !has_password(&format!("x://{rest}")))
            .ok_or_else(|| unusable("its login cannot be one; `/` is %2F there, and `@` %40"))?;
        let (mut host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut port = None;
        if scheme == "svn+ssh"
            && let Some((name, number)) = host.rsplit_once(':')
            && !number.ends_with(']')
        {
            // svn would take it for a part of the name.
            port = Some(
                number
                    .parse()
                    .map_err(|_| unusable("its port is no number"))?,
            );
            host = name;
        }
        if host.starts_with('-') {
            return Err(unusable("it cannot be a host"));
        }
        let login = login.or_as_set(settings)?;
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/trunk").unwrap_or(path);
        // For ssh the user is part of the address.
        let (at, login) = match (&login.user, scheme) {
            (Some(user), "svn+ssh") => (format!("{user}@"), Login::default()),
            _ => (String::new(), login),
        };
        Ok(Subversion {
            url: format!("{scheme}://{at}{host}{path}"),
            login,
            port,
            settings: Box::new(settings.clone()),
            config: cache.join(cache_name(&redact(repo))),
        })
    }

    pub(super) fn shown(&self) -> String {
        redact(&self.url).into_owned()
    }

    pub(super) fn fetch(&self, tag: &str) -> Result<Revision> {
        let place = self.find(tag)?;
        let is_tag = place.url.starts_with(&format!("{}/tags/", self.url));
        Ok(Revision {
            tag: tag.to_owned(),
            commit: format!("r{}", place.revision),
            is_tag,
        })
    }

    /// The newest tags, newest first.
    pub(super) fn tags(&self, count: usize) -> Result<Vec<String>> {
        let Some(list) = self.look(&["ls"], &format!("{}/tags", self.url), "HEAD")? else {
            return Ok(Vec::new());
        };
        let names = list.lines().filter_map(|line| line.strip_suffix('/'));
        let mut names: Vec<String> = names.map(|name| printable(name, 80)).collect();
        names.sort_by_cached_key(|name| std::cmp::Reverse(natural(name)));
        names.truncate(count);
        Ok(names)
    }

    /// The text of a file of a revision; `None` when it is not there.
    pub(super) fn file(&self, revision: &Revision, path: &str) -> Result<Option<Vec<u8>>> {
        let place = self.of(revision)?;
        let text = self.look(&["cat"], &format!("{}/{path}", place.url), &place.revision)?;
        Ok(text.map(String::into_bytes))
    }

    pub(super) fn checkout(&self, revision: &Revision, to: &Path) -> Result<()> {
        let place = self.of(revision)?;
        let mut svn = self.command()?;
        svn.args(["export", "--quiet", "--force", "--ignore-externals"]);
        svn.arg("--revision").arg(&place.revision);
        svn.arg(format!("{}@{}", place.url, place.revision)).arg(to);
        let output = self.run(svn, FETCH, "fetch from")?;
        match output.status.success() {
            true => Ok(()),
            false => Err(self.failed("fetch from", &output)),
        }
    }

    /// The place of a revision that was found before.
    fn of(&self, revision: &Revision) -> Result<Place> {
        let place = self.find(&revision.tag)?;
        if format!("r{}", place.revision) == revision.commit {
            return Ok(place);
        }
        Err(LifecycleError::Source {
            action: "fetch from".to_owned(),
            repo: self.shown(),
            why: format!("{} was moved meanwhile", revision.tag),
            hint: "deploy again".to_owned(),
        })
    }

    /// A tag, a branch, the trunk or a revision of it, in this order.
    fn find(&self, tag: &str) -> Result<Place> {
        git::check_name(tag)?;
        if tag.contains(['%', '@']) {
            return Err(LifecycleError::BadTag {
                tag: printable(tag, 80),
            });
        }
        let number = tag.strip_prefix('r').unwrap_or(tag);
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let mut places = vec![
            (format!("{}/tags/{tag}", self.url), "HEAD"),
            (format!("{}/branches/{tag}", self.url), "HEAD"),
        ];
        if tag == "trunk" {
            places = vec![
                (format!("{}/trunk", self.url), "HEAD"),
                (self.url.clone(), "HEAD"),
            ];
        } else if is_number {
            places.push((format!("{}/trunk", self.url), number));
            places.push((self.url.clone(), number));
        }
        for (url, at) in places {
            let item = ["info", "--show-item", "last-changed-revision"];
            if let Some(revision) = self.look(&item, &url, at)? {
                let revision = revision.trim().to_owned();
                if !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_digit()) {
                    return Ok(Place { url, revision });
                }
            }
        }
        Err(LifecycleError::UnknownTag {
            repo: self.shown(),
            tag: tag.to_owned(),
            known: self.tags(5)?,
        })
    }

    /// What svn says about a URL; `None` when there is nothing.
    fn look(&self, what: &[&str], url: &str, revision: &str) -> Result<Option<String>> {
        let mut svn = self.command()?;
        svn.args(what).args(["--revision", revision]);
        // Without a peg, an `@` in the path would be one.
        svn.arg(format!("{url}@{revision}"));
        let output = self.run(svn, LOOK, "look at")?;
        if output.status.success() {
            return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if ABSENT.iter().any(|code| text.contains(code)) {
            return Ok(None);
        }
        Err(self.failed("look at", &output))
    }

    fn command(&self) -> Result<Command> {
        files::make_dir(&self.config, 0o700)?;
        let mut svn = Command::new("svn");
        svn.env_clear().env("PATH", metactl_bundles::view::PATH);
        for name in ["HOME", "SSH_AUTH_SOCK"] {
            if let Some(value) = std::env::var_os(name) {
                svn.env(name, value);
            }
        }
        svn.env("LC_ALL", "C.UTF-8");
        let mut ssh = self.settings.ssh.command()?;
        if let Some(port) = self.port {
            ssh.push_str(&format!(" -p {port}"));
        }
        svn.env("SVN_SSH", ssh);
        svn.args(["--non-interactive", "--no-auth-cache"]);
        svn.arg("--config-dir").arg(&self.config);
        if let Some(path) = login::authorities(&self.settings)? {
            let option = "servers:global:ssl-authority-files";
            svn.args(["--config-option", &format!("{option}={}", path.display())]);
        }
        if let Some(user) = &self.login.user {
            svn.args(["--username", user]);
        }
        if self.login.password.is_some() {
            svn.arg("--password-from-stdin");
        }
        Ok(svn)
    }

    fn run(&self, svn: Command, timeout: Duration, action: &str) -> Result<command::Output> {
        let input = self.login.password.clone().unwrap_or_default().into_bytes();
        command::run_with(svn, timeout, input).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => LifecycleError::Unavailable {
                what: "svn is not installed".to_owned(),
                hint: "apt-get install subversion".to_owned(),
            },
            _ => self.problem(action, &error.to_string()),
        })
    }

    fn failed(&self, action: &str, output: &command::Output) -> LifecycleError {
        let why = said(&output.stderr).unwrap_or_else(|| output.status.to_string());
        self.problem(action, &why)
    }

    fn problem(&self, action: &str, why: &str) -> LifecycleError {
        LifecycleError::Source {
            action: action.to_owned(),
            repo: self.shown(),
            why: redact(why).into_owned(),
            hint: login::advice(&self.settings, why, &self.settings.repo),
        }
    }
}

/// `1.10` behind `1.9`: runs of digits count as numbers.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (word, tail) = rest.split_at(text);
        let digits = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        parts.push((number.parse().unwrap_or(u64::MAX), word.to_owned()));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(repo: &str) -> Result<Subversion> {
        Subversion::new(&Settings::plain(repo), "/c".into())
    }

    #[test]
    fn a_password_is_in_no_url() {
        let svn = new("svn://u:secret@svn.example.org/myapp/trunk/").unwrap();
        assert_eq!(svn.url, "svn://svn.example.org/myapp");
        assert_eq!(svn.login.user.as_deref(), Some("u"));
        assert_eq!(svn.login.password.as_deref(), Some("secret"));
        let text = format!("{:?}", svn.command().map(|c| format!("{c:?}")));
        assert!(!text.contains("secret"), "{text}");
        let ssh = new("svn+ssh://u@host/srv/svn").unwrap();
        assert_eq!(
            (ssh.url.as_str(), ssh.login.user),
            ("svn+ssh://u@host/srv/svn", None)
        );
        assert_eq!(new("svn+https://h/a").unwrap().url, "https://h/a");
        let ssh = new("svn+ssh://u@h:2222/srv/svn").unwrap();
        assert_eq!(
            (ssh.url.as_str(), ssh.port),
            ("svn+ssh://u@h/srv/svn", Some(2222))
        );
        for bad in [
            "svn+tunnel://h/a",
            "svn://",
            "svn://-oProxyCommand=x/a",
            "svn://h/a b",
            "svn+ssh://h:x/a",
        ] {
            assert!(new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let mut names = ["1.9", "1.10", "2.0", "1.9.1"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["1.9", "1.9.1", "1.10", "2.0"]);
    }
}
