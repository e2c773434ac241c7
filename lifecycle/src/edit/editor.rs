//! `config`: the local layer in the editor of whoever asks, as visudo(8) does it.
//!
//! The editor gets a copy, in a folder that nobody else can look into, and runs as the person behind sudo with
//! no privilege and no group but their own. What it leaves there is theirs, and so not trusted: it is read back
//! through the folder that was made, never through a link, and only when the file is theirs. The layer
//! itself is replaced only by a text with which the merged configuration is whole.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use metactl_bundles::edit::{self, Difference};
use metactl_bundles::keys::values::split_words;
use metactl_bundles::layers::MAX_FILE;
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Mode, OFlags, openat};

use super::layer::{self, Layer};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::lock::Lock;
use crate::manager::require_root;
use crate::person::Person;

/// What to do with a text that is not right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on editing it.
    Again,
    /// Leave the configuration as it was.
    Leave,
}

/// Is asked what to do about a fault; `None` when there is nobody to ask.
pub type Ask<'a> = dyn FnMut(&LifecycleError) -> Option<Answer> + 'a;

/// The local layer after it was replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The file.
    pub file: PathBuf,
    /// Whether it is another one now.
    pub changed: bool,
    /// What it says otherwise now; nothing when only comments changed.
    pub differences: Vec<Difference>,
    /// Whether something runs that does not know of it yet.
    pub runs: bool,
    /// What is worth knowing, but stops nothing.
    pub warnings: Vec<String>,
}

impl Instance {
    /// Lets a person edit the local layer. `ask` decides about a text that is not right.
    ///
    /// # Errors
    /// An editor that does not start or fails, and a text that is not right when nobody is there to mend it:
    /// then nothing has changed.
    pub fn edit_by_hand(&self, ask: &mut Ask<'_>) -> Result<Replaced> {
        require_root("changing the configuration")?;
        let path = self.manager.paths.local_layer(&self.name);
        // Not the instance's own lock: an editor may stay open for hours.
        let lock = format!("{}.editor.lock", self.name);
        let lock = self.manager.paths.run.join("locks").join(lock);
        let _editing = Lock::acquire(&lock, "metactl config", Duration::ZERO)?.map_err(|held| {
            LifecycleError::Locked {
                instance: path.display().to_string(),
                holder: held.0,
            }
        })?;
        let before = layer::read(&path)?;
        let signals = Signals::hold()?;
        let result = Session::begin(self, &before).and_then(|session| session.run(&before, ask));
        drop(signals);
        result
    }
}

/// Ctrl-C and its like are for the editor; this process has a copy to remove.
struct Signals(SigSet);

impl Signals {
    fn hold() -> Result<Signals> {
        let wrong = |error: nix::Error| LifecycleError::Edit {
            what: format!("signals cannot be held back: {error}"),
            hint: String::new(),
        };
        let before = SigSet::thread_get_mask().map_err(wrong)?;
        let mut held = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGHUP,
        ] {
            held.add(signal);
        }
        held.thread_block().map_err(wrong)?;
        Ok(Signals(before))
    }
}

impl Signals {
    /// Whether a signal to this process waits for its turn (proc(5)).
    fn is_pending(signal: Signal) -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        let bits = pending.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        bits.is_some_and(|bits| bits & (1 << (signal as u32 - 1)) != 0)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Ctrl-C was the editor's. A wish to end this process is heard now.
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            if Signals::is_pending(signal) {
                let mut one = SigSet::empty();
                one.add(signal);
                let _taken = one.wait();
            }
        }
        // It was the mask of this very thread.
        let _restored = self.0.thread_set_mask();
    }
}

/// A copy of the layer that somebody edits. Removed when dropped.
struct Session<'a> {
    instance: &'a Instance,
    person: Person,
    dir: PathBuf,
    /// The folder itself, whatever its name leads to later.
    handle: File,
    name: String,
}

impl<'a> Session<'a> {
    fn begin(instance: &'a Instance, text: &str) -> Result<Session<'a>> {
        let person = Person::behind();
        let dir = make_private_dir(&person)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&dir, flags, Mode::empty()).on("open", &dir)?;
        let session = Session {
            instance,
            person,
            handle: File::from(handle),
            name: format!("{}.conf", instance.name),
            dir,
        };
        let copy = session.dir.join(&session.name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(&session.handle, &session.name, flags, mode).on("write", &copy)?;
        let mut file = File::from(file);
        file.write_all(text.as_bytes()).on("write", &copy)?;
        let owner = |file: &File| -> io::Result<()> {
            let (uid, gid) = (session.person.uid.as_raw(), session.person.gid.as_raw());
            match session.person.is_other {
                true => fchown(file, Some(uid), Some(gid)),
                false => Ok(()),
            }
        };
        owner(&file).on("write", &copy)?;
        owner(&session.handle).on("write", &session.dir)?;
        Ok(session)
    }

    fn run(&self, before: &str, ask: &mut Ask<'_>) -> Result<Replaced> {
        loop {
            self.open_editor()?;
            let result = self.read_back().and_then(|text| self.take(before, text));
            let fault = match result {
                Ok(replaced) => return Ok(replaced),
                Err(fault) => fault,
            };
            match ask(&fault) {
                Some(Answer::Again) => {}
                Some(Answer::Leave) => return Ok(self.unchanged()),
                None => return Err(fault),
            }
        }
    }

    fn unchanged(&self) -> Replaced {
        Replaced {
            file: self.instance.manager.paths.local_layer(&self.instance.name),
            changed: false,
            differences: Vec::new(),
            runs: false,
            warnings: Vec::new(),
        }
    }

    /// Takes the text for the layer, if nothing is wrong with it and nobody was faster.
    fn take(&self, before: &str, text: String) -> Result<Replaced> {
        if text == before {
            return Ok(self.unchanged());
        }
        let _lock = self.instance.lock("config")?;
        let layer = Layer::open(self.instance)?;
        if layer.text != before {
            return Err(LifecycleError::Edit {
                what: format!("somebody else changed {} meanwhile", layer.path.display()),
                hint: "leave it, and begin again with what it is now".to_owned(),
            });
        }
        replace(self.instance, &layer, &text, "config")
    }

    /// Waits for the editor.
    fn open_editor(&self) -> Result<()> {
        let words = editor();
        let (program, args) = match words.split_first() {
            Some((program, args)) => (program.as_str(), args),
            None => ("vi", &[][..]),
        };
        let mut command = Command::new(program);
        command.args(args).arg(self.dir.join(&self.name));
        if self.person.is_other {
            // With a uid, the standard library drops all other groups too (setgroups(2)).
            command
                .uid(self.person.uid.as_raw())
                .gid(self.person.gid.as_raw())
                .env("HOME", &self.person.home)
                .env("USER", &self.person.login)
                .env("LOGNAME", &self.person.login);
        }
        let failed = |why: String| LifecycleError::Unavailable {
            what: format!("the editor {program} {why}; nothing was changed"),
            hint: "EDITOR=nano metactl APP config takes another one".to_owned(),
        };
        let status = command
            .status()
            .map_err(|error| failed(format!("does not start: {error}")))?;
        match status.success() {
            true => Ok(()),
            false => Err(failed(format!("failed ({status})"))),
        }
    }

    /// Reads what the editor left: a file of the person's own in the folder that was made.
    fn read_back(&self) -> Result<String> {
        let path = self.dir.join(&self.name);
        let strange = |what: &str| LifecycleError::Edit {
            what: format!("{} is {what} now", path.display()),
            hint: "the editor has to leave a plain file of your own there".to_owned(),
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match openat(&self.handle, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::LOOP) => return Err(strange("a symbolic link")),
            Err(rustix::io::Errno::NOENT) => return Err(strange("gone")),
            Err(error) => return Err(error).on("read", &path),
        };
        let meta = file.metadata().on("read", &path)?;
        if !meta.is_file() {
            return Err(strange("no regular file"));
        }
        // A hard link to somebody else's file would be read with root's rights.
        if meta.uid() != self.person.uid.as_raw() {
            return Err(strange("a file of somebody else"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .on("read", &path)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(strange("larger than 1 MiB"));
        }
        String::from_utf8(bytes).map_err(|error| strange(&format!("not UTF-8 ({error})")))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // It is only a copy, which nobody else can read; what stays is the person's own.
        let _gone = files::remove_tree(&self.dir);
    }
}

/// Replaces the whole layer by a text that is right; the caller holds the lock.
pub(super) fn replace(
    instance: &Instance,
    layer: &Layer<'_>,
    text: &str,
    doing: &str,
) -> Result<Replaced> {
    let checked = layer.check(text)?;
    let mut warnings = checked.warnings;
    // What was there may have had faults that nothing can be compared with.
    let differences = edit::differences(&layer.path, &layer.text, text).unwrap_or_default();
    let changed = text != layer.text;
    if changed {
        warnings.extend(layer.replace(text, &format!("{}: {doing}", instance.name))?);
    }
    Ok(Replaced {
        file: layer.path.clone(),
        changed,
        differences,
        runs: changed && instance.wanted()?.is_some(),
        warnings,
    })
}

/// The words of `VISUAL`, else of `EDITOR`, else what the system has.
fn editor() -> Vec<String> {
    let named = ["VISUAL", "EDITOR"].iter().find_map(|name| {
        let words = split_words(&std::env::var(name).ok()?).ok()?;
        (!words.is_empty()).then_some(words)
    });
    named.unwrap_or_else(|| {
        let debian = Path::new("/usr/bin/sensible-editor");
        let program = if debian.exists() {
            "sensible-editor"
        } else {
            "vi"
        };
        vec![program.to_owned()]
    })
}

/// A folder of this user's own for temporary files.
fn make_private_dir(person: &Person) -> Result<PathBuf> {
    // What the environment names may belong to the person, who could put another folder into its place
    // before it is theirs; in /tmp nobody can (it is sticky).
    let base = match person.is_other {
        true => PathBuf::from("/tmp"),
        false => std::env::temp_dir(),
    };
    let mut attempt = 0;
    loop {
        let now = jiff::Timestamp::now().as_nanosecond();
        let dir = base.join(format!("metactl-edit-{}-{now:x}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {
                attempt += 1;
            }
            Err(error) => return Err(error).on("make", &dir),
        }
    }
}
