//! Servers of version control: sshd, and Apache with https, for git and Subversion.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::command::Background;
use crate::{Host, eventually};

/// How the private host's resolver calls itself.
pub const NAME: &str = "git.example.org";
const SOON: Duration = Duration::from_secs(15);

/// Runs a tool that has to succeed.
#[track_caller]
pub fn tool(dir: &Path, words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir).env("HOME", dir);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A Subversion repository at `repo` with these files in its trunk, which is also the tag 1.0.
pub fn svn_repository(work: &Path, repo: &Path, files: &[(&str, &str)]) {
    let tree = work.join("svn-tree");
    for (name, text) in files {
        let path = tree.join("trunk").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = repo.to_str().unwrap();
    let url = format!("file://{path}");
    tool(work, &["svnadmin", "create", path]);
    let from = tree.to_str().unwrap();
    tool(work, &["svn", "import", "-q", "-m", "one", from, &url]);
    let (trunk, tag) = (format!("{url}/trunk"), format!("{url}/tags/1.0"));
    tool(
        work,
        &["svn", "copy", "-q", "--parents", "-m", "1.0", &trunk, &tag],
    );
}

/// An SSH server on port 2222, and the keys to come in as root.
pub struct Sshd {
    /// The private key that it lets in.
    pub key: PathBuf,
    /// What a known_hosts file says of it.
    pub known: String,
    _server: Background,
}

impl Sshd {
    /// Starts one.
    pub fn start(host: &Host) -> Sshd {
        let dir = host.work().join("sshd");
        fs::create_dir(&dir).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        host.name("127.0.0.1", NAME);
        host.is_settled();
        let new_key = |name: &str| {
            let path = dir.join(name);
            let file = path.to_str().unwrap();
            tool(
                &dir,
                &[
                    "ssh-keygen",
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    name,
                    "-f",
                    file,
                ],
            );
            path
        };
        let (key, own) = (new_key("deploy_key"), new_key("host_key"));
        let public = |key: &Path| fs::read_to_string(key.with_extension("pub")).unwrap();
        fs::write(dir.join("authorized"), public(&key)).unwrap();
        let config = format!(
            "Port 2222\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nPidFile none\n",
            own.display(),
            dir.join("authorized").display()
        );
        fs::write(dir.join("config"), config).unwrap();
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(dir.join("config"));
        let server = host.spawn_command(sshd);
        listens(2222);
        Sshd {
            key,
            known: format!("[{NAME}]:2222 {}", public(&own)),
            _server: server,
        }
    }
}

/// A web server with https on port 443: git below `/git`, Subversion at `/svn`, both for `builder` with the
/// password `open sesame`. What is asked of it below `/moved` is at port 444, which lets nobody in and
/// writes down who they say they are.
pub struct Web {
    /// The certificate of the authority that vouches for it.
    pub authority: PathBuf,
    dir: PathBuf,
    server: Option<Background>,
}

impl Drop for Web {
    fn drop(&mut self) {
        // Killed, it would leave its workers.
        if let Some(server) = self.server.take() {
            server.signal(Signal::SIGTERM);
            server.wait(SOON);
        }
    }
}

impl Web {
    /// Starts one, for the git repositories in `git` and the Subversion repository `svn`.
    pub fn start(host: &Host, git: &Path, svn: &Path) -> Web {
        let dir = host.work().join("web");
        fs::create_dir(&dir).unwrap();
        host.name("127.0.0.1", NAME);
        let alternative = format!("subjectAltName=DNS:{NAME}");
        let subject = format!("/CN={NAME}");
        tool(
            &dir,
            &[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                &subject,
                "-addext",
                &alternative,
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
            ],
        );
        let hash = tool(&dir, &["openssl", "passwd", "-apr1", "open sesame"]);
        fs::write(dir.join("users"), format!("builder:{hash}")).unwrap();
        let backend = tool(&dir, &["git", "--exec-path"]).trim().to_owned() + "/git-http-backend";
        // Slow enough to be looked at.
        let script = format!("#!/bin/sh\nsleep 0.3\nexec {backend}\n");
        fs::write(dir.join("backend"), script).unwrap();
        fs::set_permissions(dir.join("backend"), fs::Permissions::from_mode(0o755)).unwrap();
        let load: String = [
            "mpm_prefork",
            "authn_file",
            "authn_core",
            "authz_core",
            "authz_user",
            "auth_basic",
            "ssl",
            "alias",
            "cgi",
            "env",
            "dav",
            "dav_svn",
        ]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
        let d = dir.display();
        let (git, svn) = (git.display(), svn.display());
        let config = format!(
            "{load}ServerRoot {d}\nServerName {NAME}\nPidFile {d}/pid\nErrorLog {d}/errors\nUser nobody\nGroup nogroup\n\
             DefaultRuntimeDir {d}\nMutex file:{d}\nStartServers 2\nListen 127.0.0.1:443\nListen 127.0.0.1:444\n\
             SSLEngine on\nSSLCertificateFile {d}/cert.pem\nSSLCertificateKeyFile {d}/key.pem\n\
             SetEnv GIT_PROJECT_ROOT {git}\nSetEnv GIT_HTTP_EXPORT_ALL 1\nSetEnv GIT_CONFIG_COUNT 1\n\
             SetEnv GIT_CONFIG_KEY_0 safe.directory\nSetEnv GIT_CONFIG_VALUE_0 *\n\
             ScriptAlias /git/ {d}/backend/\nRedirect 302 /moved/ https://{NAME}:444/git/\n\
             LogFormat \"%{{Authorization}}i %U\" who\n\
             <Location /git/>\nAuthType Basic\nAuthName git\nAuthUserFile {d}/users\nRequire valid-user\n</Location>\n\
             <Location /svn>\nDAV svn\nSVNPath {svn}\nAuthType Basic\nAuthName svn\nAuthUserFile {d}/users\nRequire valid-user\n</Location>\n\
             <VirtualHost 127.0.0.1:443>\nSSLEngine on\n</VirtualHost>\n\
             <VirtualHost 127.0.0.1:444>\nSSLEngine on\nCustomLog {d}/who who\n\
             <Location /git/>\nRequire user nobody-at-all\n</Location>\n</VirtualHost>\n"
        );
        fs::write(dir.join("config"), config).unwrap();
        let mut apache = Command::new("/usr/sbin/apache2");
        apache.arg("-DFOREGROUND").arg("-f").arg(dir.join("config"));
        // It ends its whole group, which is not to be that of the test.
        apache.process_group(0);
        let server = host.spawn_command(apache);
        listens(443);
        Web {
            authority: dir.join("cert.pem"),
            dir,
            server: Some(server),
        }
    }

    /// Who those that came to port 444 said they are, a line each.
    pub fn who_came_elsewhere(&self) -> String {
        fs::read_to_string(self.dir.join("who")).unwrap_or_default()
    }
}

fn listens(port: u16) {
    eventually(&format!("a server at port {port}"), SOON, || {
        TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
    });
}
