//! Who the server is for a repository, and whom it trusts to be one.
//!
//! A password is on no command line, which everybody on the server can read: it is taken out of the
//! URL, or read from its file, and kept where only this process and root find it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use super::Settings;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;

/// What stands before the `@` of a URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// What the settings say, else what stood in the URL. An empty password is none.
    pub(super) fn or_as_set(self, settings: &Settings) -> Result<Login> {
        let password = match settings.password_file.as_deref() {
            Some(file) => Some(password_in(file)?),
            None => self.password.filter(|text| !text.is_empty()),
        };
        Ok(Login {
            user: settings.user.clone().or(self.user),
            password,
        })
    }
}

/// Takes the login out of `user:password@host/path`, the part of a URL behind `://`. `None`: it
/// cannot be one.
pub(super) fn take_out(rest: &str) -> Option<(String, Login)> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((login, host)) = authority.rsplit_once('@') else {
        return Some((rest.to_owned(), Login::default()));
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (login, None),
    };
    let login = Login {
        user: Some(decoded(user)?),
        password,
    };
    Some((format!("{host}{path}"), login))
}

/// Whether two URLs have the same scheme, host and port: then a password for one is told to the other.
pub(super) fn same_server(one: &str, other: &str) -> bool {
    let server = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let (rest, _) = take_out(rest)?;
        let host = rest.split('/').next().unwrap_or_default();
        Some(format!("{scheme}://{host}"))
    };
    server(one).is_some_and(|one| server(other) == Some(one))
}

/// `%40` is `@` (RFC 3986, section 2.1); nothing that would end a line.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).ok()?);
                rest = tail.get(2..)?;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// The first line of a file.
fn password_in(path: &Path) -> Result<String> {
    let text = files::read(path)?.ok_or_else(|| LifecycleError::Setting {
        what: format!("[build] password.file: {} is not there", path.display()),
        hint: "write the password into it, readable by root only".to_owned(),
    })?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A login for git, which asks for it by running a program (gitcredentials(7)): that program reads a
/// file without a name, which ends with this process.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    /// Scheme, host and port: nobody else is told, wherever a server sends git.
    scope: String,
    /// Who asks.
    pub(super) user: String,
    file: Arc<File>,
}

impl Credentials {
    /// `None` when there is nothing to say.
    pub(super) fn new(scope: &str, login: &Login) -> Result<Option<Credentials>> {
        if login.user.is_none() && login.password.is_none() {
            return Ok(None);
        }
        let path = Path::new("a file in memory");
        let file = memfd_create("login", MemfdFlags::CLOEXEC).on("make", path)?;
        let mut file = File::from(file);
        let user = login.user.as_deref().unwrap_or_default();
        let password = login.password.as_deref().unwrap_or_default();
        // git-credential(1), "INPUT/OUTPUT FORMAT".
        let text = format!("username={user}\npassword={password}\n");
        file.write_all(text.as_bytes()).on("write", path)?;
        Ok(Some(Credentials {
            scope: scope.to_owned(),
            user: user.to_owned(),
            file: Arc::new(file),
        }))
    }

    /// Whether they are for this scheme, host and port.
    pub(super) fn are_for(&self, scope: &str) -> bool {
        self.scope == scope
    }

    /// The setting of git for it, which holds no secret. It is asked to `get`, and to `store` and
    /// `erase` too, which is not its business.
    pub(super) fn setting(&self) -> String {
        format!(
            "credential.{}.helper=!f() {{ test \"$1\" != get || cat /proc/{}/fd/{}; }}; f",
            self.scope,
            std::process::id(),
            self.file.as_raw_fd()
        )
    }
}

/// How ssh is used: never with questions, and only with hosts that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ssh {
    pub(super) key: Option<PathBuf>,
    pub(super) known_hosts: Option<PathBuf>,
}

impl Ssh {
    /// The command line, for a shell and for Subversion, which both know quotes.
    pub(super) fn command(&self) -> Result<String> {
        let mut command =
            "ssh -o BatchMode=yes -o ConnectTimeout=30 -o StrictHostKeyChecking=yes".to_owned();
        if let Some(key) = &self.key {
            let key = usable("ssh.key", key)?;
            command.push_str(&format!(" -o IdentitiesOnly=yes -i {key}"));
        }
        if let Some(hosts) = &self.known_hosts {
            let hosts = usable("ssh.known_hosts", hosts)?;
            command.push_str(&format!(
                " -o UserKnownHostsFile={hosts} -o GlobalKnownHostsFile=/dev/null"
            ));
        }
        Ok(command)
    }

    /// What helps when ssh gave up, by its own words.
    fn advice(&self, why: &str, repo: &str) -> Option<String> {
        let file = match &self.known_hosts {
            Some(file) => file.display().to_string(),
            None => "~/.ssh/known_hosts".to_owned(),
        };
        if why.contains("HAS CHANGED") {
            return Some(format!(
                "ask whoever runs that host whether its key is a new one; only then take the old one out of {file}"
            ));
        }
        if why.contains("Host key verification failed") {
            let (host, port) = host_of(repo);
            let port = port.map(|port| format!("-p {port} ")).unwrap_or_default();
            return Some(format!(
                "ssh-keyscan {port}{host} >> {file}, when whoever runs that host says that its key is this one (ssh-keygen -lf {file})"
            ));
        }
        let refused = why.contains("Permission denied (") || why.contains("UNPROTECTED PRIVATE");
        refused.then(|| match &self.key {
            Some(key) => format!(
                "{} has to be readable by root only, without a passphrase, and its public half known to that host",
                key.display()
            ),
            None => "[build] ssh.key names the private key to use, one without a passphrase".to_owned(),
        })
    }
}

/// A path that neither a shell nor ssh takes for something else (ssh_config(5), "TOKENS").
fn usable<'a>(key: &str, path: &'a Path) -> Result<&'a str> {
    let bad = |why: &str, hint: &str| LifecycleError::Setting {
        what: format!("[build] {key}: {} {why}", path.display()),
        hint: hint.to_owned(),
    };
    if !path.is_file() {
        return Err(bad("is not there", "it names a file of this server"));
    }
    let plain = |c: char| c.is_alphanumeric() || "/._+-@,".contains(c);
    match path.to_str() {
        Some(text) if text.chars().all(plain) => Ok(text),
        _ => Err(bad(
            "cannot be given to ssh",
            "rename it: letters, digits, and `/._+-@,`",
        )),
    }
}

/// A file of certificates that is there.
pub(super) fn authorities(settings: &Settings) -> Result<Option<&Path>> {
    match settings.tls_ca.as_deref() {
        Some(path) if !path.is_file() => Err(LifecycleError::Setting {
            what: format!("[build] tls.ca: {} is not there", path.display()),
            hint: "it names a file with certificates in PEM".to_owned(),
        }),
        path => Ok(path),
    }
}

/// What helps, by what a tool said.
pub(super) fn advice(settings: &Settings, why: &str, repo: &str) -> String {
    if let Some(advice) = settings.ssh.advice(why, repo) {
        return advice;
    }
    let any = |parts: &[&str]| parts.iter().any(|part| why.contains(part));
    // git with OpenSSL and with GnuTLS, and Subversion.
    let certificate = [
        "SSL certificate problem",
        "certificate verification failed",
        "E230001",
    ];
    if any(&certificate) {
        return "[build] tls.ca names the file with the certificate of the authority that vouches for it"
            .to_owned();
    }
    let login = [
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "error: 401",
        "error: 403",
        "E170001",
        "E215004",
    ];
    if any(&login) {
        return "[build] user and password.file say who asks".to_owned();
    }
    String::new()
}

/// The host and port of `ssh://user@host:port/path`, or of `user@host:path`.
fn host_of(repo: &str) -> (String, Option<String>) {
    let (rest, is_url) = match repo.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (repo, false),
    };
    let rest = rest.split('/').next().unwrap_or_default();
    let rest = rest.rsplit('@').next().unwrap_or_default();
    if let Some((address, behind)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        let port = behind.strip_prefix(':').filter(|_| is_url);
        return (address.to_owned(), port.map(str::to_owned));
    }
    match rest.split_once(':') {
        Some((host, port)) if is_url => (host.to_owned(), Some(port.to_owned())),
        Some((host, _)) => (host.to_owned(), None),
        None => (rest.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_taken_out_of_a_url() {
        let taken = |rest: &str| {
            let (address, login) = take_out(rest).unwrap();
            (address, login.user, login.password)
        };
        let some = |text: &str| Some(text.to_owned());
        for (rest, address, user, password) in [
            ("h/a", "h/a", None, None),
            ("u@h:1/a@b", "h:1/a@b", some("u"), None),
            ("u:p@ss:w@h/a", "h/a", some("u"), some("p@ss:w")),
            ("u:p%40%25%2f@h", "h", some("u"), some("p@%/")),
            ("u:100%@h", "h", some("u"), some("100%")),
        ] {
            assert_eq!(taken(rest), (address.to_owned(), user, password), "{rest}");
        }
        // It would be another line of what git is told.
        assert!(take_out("u:p%0ahost=x@h").is_none());
        assert!(take_out("u%00:p@h").is_none());
        assert!(same_server("https://u:p@h/a", "https://h/b"));
        assert!(!same_server("https://h/a", "http://h/a") && !same_server("/a", "/a"));
        let (_, login) = take_out("u:secret@h").unwrap();
        assert!(!format!("{login:?}").contains("secret"));
    }

    #[test]
    fn what_ssh_said_says_what_to_do() {
        let settings = Settings::default();
        let advice = |why: &str, repo: &str| advice(&settings, why, repo);
        let unknown = "Host key verification failed.";
        assert!(advice(unknown, "ssh://git@h:2222/a").starts_with("ssh-keyscan -p 2222 h >> "));
        assert!(advice(unknown, "git@h:a/b").starts_with("ssh-keyscan h >> "));
        assert!(
            advice(unknown, "ssh://[2001:db8::1]:22/a")
                .starts_with("ssh-keyscan -p 22 2001:db8::1 >> ")
        );
        assert!(advice("Permission denied (publickey).", "git@h:a").contains("ssh.key"));
        assert_eq!(advice("no such repository", "git@h:a"), "");
    }

    #[test]
    fn a_path_that_ssh_would_read_otherwise_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let with = |name: &str| {
            let key = dir.path().join(name);
            std::fs::write(&key, "").unwrap();
            Ssh {
                key: Some(key),
                known_hosts: None,
            }
            .command()
        };
        assert!(with("deploy_key").unwrap().contains("deploy_key"));
        for bad in ["a b", "%h", "x;y", "$HOME", "a'b", "a\"b", "~x"] {
            assert!(with(bad).is_err(), "{bad}");
        }
        let absent = Ssh {
            key: Some(dir.path().join("absent")),
            known_hosts: None,
        };
        assert!(absent.command().is_err());
    }
}
