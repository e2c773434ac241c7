//! Does an instance see this path, may it write there, and by which mount?
//!
//! The path is one of the inside, followed as the kernel would follow it there. What is at another
//! path inside than on the server is found by the server's path as well.

use std::path::{Component, Path, PathBuf};

use super::{Allow, Answer, Because, Verdict};
use crate::app::App;
use crate::layers::Config;
use crate::platforms::APP_DIR;
use crate::view::{self, DATA_DIR, Entry, Node, View, What, normalized};

/// How many symbolic links are followed one after the other (as the kernel: path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What the kernel provides: nothing that a key could change.
const KERNEL: &[&str] = &["/proc", "/dev", "/sys"];

/// What is looked at of the server, so that a test can describe one that it does not have.
pub trait Disk {
    /// What is at a path of the server, itself and not where it leads.
    fn look(&self, path: &Path) -> Found;
}

/// What is at a path of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Something.
    Something,
    /// A symbolic link with this text.
    Link(PathBuf),
    /// Nothing.
    Nothing,
    /// Nobody can tell: it cannot be looked at.
    Unknown,
}

/// The file system of this server.
#[derive(Debug, Clone, Copy)]
pub struct Server;

impl Disk for Server {
    fn look(&self, path: &Path) -> Found {
        match std::fs::symlink_metadata(path) {
            Ok(facts) if facts.is_symlink() => {
                std::fs::read_link(path).map_or(Found::Unknown, Found::Link)
            }
            Ok(_) => Found::Something,
            Err(error) => match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Found::Nothing,
                _ => Found::Unknown,
            },
        }
    }
}

/// The view that is asked about, and what it was made from.
pub struct Seen<'a> {
    /// The merged configuration.
    pub config: &'a Config,
    /// Its model.
    pub app: &'a App,
    /// The view of its entry points.
    pub view: &'a View,
}

/// Where a path leads.
enum Place<'a> {
    /// Into a mount.
    Mounted(&'a Entry, Found),
    /// To something of the skeleton: a generated file, a folder.
    Own(&'a Node),
    /// Nowhere.
    Missing,
    /// Round and round.
    Loop,
}

impl Seen<'_> {
    /// The answer for `path`, from the root.
    pub fn answer(&self, disk: &dyn Disk, path: &Path) -> Answer {
        let (end, place) = self.walk(disk, path);
        let mut answer = match place {
            Place::Mounted(entry, found) => {
                let mut answer = self.mounted(entry);
                match found {
                    Found::Nothing => {
                        let text = "there is nothing at this path now";
                        answer.because.push(Because::rule(text));
                    }
                    Found::Unknown => {
                        let text = "whether something is there cannot be seen from here";
                        answer.because.push(Because::rule(text));
                    }
                    _ => {}
                }
                answer
            }
            Place::Own(node) => own(node),
            Place::Loop => Answer::new(
                Verdict::No,
                Because::rule("its symbolic links lead back to it"),
            ),
            Place::Missing => self.elsewhere(path).unwrap_or_else(|| self.unseen(&end)),
        };
        if end != normalized(path) {
            let text = format!("it leads to {}", end.display());
            answer.because.push(Because::rule(text));
        }
        answer
    }

    /// Follows a path, one name after the other. The path that it came to, and what is there.
    fn walk(&self, disk: &dyn Disk, path: &Path) -> (PathBuf, Place<'_>) {
        let mut rest: Vec<PathBuf> = names(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == Path::new("..") {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let Some(target) = self.link_at(disk, &next) else {
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return (normalized(path), Place::Loop);
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(names(&target));
        }
        let place = match self.backing(&at) {
            Some((entry, source)) => {
                let found = source.map_or(Found::Something, |source| disk.look(&source));
                Place::Mounted(entry, found)
            }
            None => {
                let relative = at.strip_prefix("/").unwrap_or(&at);
                match self.view.skeleton.get(relative) {
                    Some(node) => Place::Own(node),
                    None if relative == Path::new("") => Place::Own(&Node::Directory),
                    None => Place::Missing,
                }
            }
        };
        (at, place)
    }

    /// The text of the symbolic link at a path inside, if there is one.
    fn link_at(&self, disk: &dyn Disk, path: &Path) -> Option<PathBuf> {
        match self.backing(path) {
            // What is mounted over is no link, only what is in it.
            Some((entry, Some(source))) if entry.target != path => match disk.look(&source) {
                Found::Link(text) => Some(text),
                _ => None,
            },
            Some(_) => None,
            None => match self
                .view
                .skeleton
                .get(path.strip_prefix("/").unwrap_or(path))
            {
                Some(Node::Link(text)) => Some(PathBuf::from(text)),
                _ => None,
            },
        }
    }

    /// The mount that a path inside lies in, and its path on the server if it has one.
    fn backing(&self, path: &Path) -> Option<(&Entry, Option<PathBuf>)> {
        let holds = |entry: &&Entry| path.starts_with(&entry.target);
        let deepest = self
            .view
            .entries
            .iter()
            .filter(holds)
            .max_by_key(|entry| entry.target.components().count())?;
        let rest = path.strip_prefix(&deepest.target).unwrap_or(path);
        let source = match &deepest.what {
            What::Bind { source, .. } if rest == Path::new("") => Some(source.clone()),
            What::Bind { source, .. } => Some(source.join(rest)),
            _ => None,
        };
        Some((deepest, source))
    }

    /// What a mount allows, and what it comes from.
    fn mounted(&self, entry: &Entry) -> Answer {
        let how = match &entry.what {
            What::Bind {
                writable: false, ..
            } => "read-only",
            What::Proc => "the kernel's, partly masked",
            _ => "read-write",
        };
        let mut answer = Answer::new(Verdict::Yes, self.reason(entry));
        answer.how = Some(how.to_owned());
        answer
    }

    /// Which line or rule makes a mount.
    fn reason(&self, entry: &Entry) -> Because {
        let target = &entry.target;
        let mounts = &self.app.sandbox.mounts;
        if let Some(mount) = mounts.iter().find(|mount| mount.target == *target) {
            let text = format!("{} = {}", target.display(), mount.source.display());
            let key = target.to_string_lossy();
            let value = self.config.get("sandbox.mounts", &key);
            return Because {
                names: value.map_or_else(Vec::new, |value| self.config.names_of(value)),
                origin: Some(mount.origin.clone()),
                text,
            };
        }
        let needs = view::launches(self.app).flat_map(|launch| &launch.needs);
        let mut needs = needs.filter(|need| target.starts_with(&need.path));
        if let Some(need) = needs.next() {
            return Because {
                origin: need.origin.clone(),
                text: format!("{} needs it", need.what),
                names: Vec::new(),
            };
        }
        let text = match &entry.what {
            What::Proc => "its own processes".to_owned(),
            What::Dev | What::DevPts | What::DevShm | What::DevMqueue => {
                "a minimal /dev of its own".to_owned()
            }
            What::Tmp => "a private /tmp, emptied at stop".to_owned(),
            What::Bind { .. } if target == Path::new(APP_DIR) => "the release".to_owned(),
            What::Bind { source, .. } if target == Path::new(DATA_DIR) => {
                format!(
                    "the instance's data ({}), which deployments keep",
                    source.display()
                )
            }
            What::Bind { .. } if target == Path::new("/etc/hosts") => {
                "made for the instance, with the names that it may reach".to_owned()
            }
            What::Bind { source, .. } => match &self.app.sandbox.rootfs {
                Some(root) => format!("[sandbox] rootfs = {}", root.display()),
                None => format!("the default view shows {} of the server", source.display()),
            },
        };
        let value = match (&entry.what, &self.app.sandbox.rootfs) {
            (What::Bind { .. }, Some(_)) if text.starts_with("[sandbox] rootfs") => {
                self.config.get("sandbox", "rootfs")
            }
            _ => None,
        };
        match value {
            Some(value) => Because::value(self.config, value, text),
            None => Because::rule(text),
        }
    }

    /// A path of the server that is shown at another path inside.
    fn elsewhere(&self, path: &Path) -> Option<Answer> {
        let path = normalized(path);
        let shown = self
            .view
            .entries
            .iter()
            .find_map(|entry| match &entry.what {
                What::Bind { source, .. } if path.starts_with(source) => {
                    let rest = path.strip_prefix(source).ok()?;
                    Some((entry, entry.target.join(rest)))
                }
                _ => None,
            });
        let (entry, inside) = shown?;
        let mut answer = self.mounted(entry);
        let how = answer.how.unwrap_or_default();
        answer.how = Some(format!("{how}, as {}", inside.display()));
        Some(answer)
    }

    /// Nothing shows it: what would.
    fn unseen(&self, path: &Path) -> Answer {
        let shown = path.display();
        let text = format!("nothing shows {shown} to it");
        let mut answer = Answer::new(Verdict::No, Because::rule(text));
        let requests = self.config.requests().iter();
        let asked = requests.filter(|request| {
            request.section == "sandbox.mounts" && path.starts_with(&request.key)
        });
        for request in asked {
            answer.because.push(Because::denied(request));
            answer.allow.push(Allow {
                command: set(&request.key, &request.value),
                lines: request.grant.clone(),
            });
        }
        let is_kernel = KERNEL.iter().any(|kernel| path.starts_with(kernel));
        if answer.allow.is_empty() && !is_kernel {
            let value = format!("{shown} ro");
            answer.allow.push(Allow {
                command: set(&shown.to_string(), &value),
                lines: format!("[sandbox.mounts]\n{shown} = {value}"),
            });
        }
        answer
    }
}

fn set(target: &str, value: &str) -> Vec<String> {
    vec!["set".to_owned(), format!("sandbox.mounts:{target}={value}")]
}

/// What is made for the instance.
fn own(node: &Node) -> Answer {
    let text = match node {
        Node::File(_) => "made for the instance",
        Node::Directory => "a folder of the sandbox, with nothing of the server in it",
        Node::Link(_) => "a symbolic link of the sandbox",
    };
    let mut answer = Answer::new(Verdict::Yes, Because::rule(text));
    answer.how = Some("read-only".to_owned());
    answer
}

/// The names of a path, the first one last.
fn names(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            _ => None,
        })
        .collect();
    names.reverse();
    names
}
