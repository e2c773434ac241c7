//! Attributes and propagation of mounts: what their words mean to mount_setattr(2).

use crate::sys::MountAttr;

/// Attributes of a mount, as mount_setattr(2) takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Of the mount itself.
    pub own: MountAttr,
    /// Of the mount and everything below it.
    pub deep: MountAttr,
    /// How mount events travel (`MS_PRIVATE` and so on); 0 leaves it.
    pub propagation: u64,
    /// The same for everything below.
    pub deep_propagation: u64,
    /// The ids that the mount shows are also those of everything below.
    pub deep_ids: bool,
    /// What the mount itself loses because other words were said of a bind mount and this was not (mount(2),
    /// `MS_REMOUNT | MS_BIND`: all flags are set anew). What may not be taken away stays.
    pub unsaid: u64,
}

pub(super) const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(super) const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
pub(super) const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
pub(super) const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

/// What the words said of a bind mount set anew. Times of access are not among them: mount(2) leaves them when
/// nothing is said of them.
const ANEW: u64 = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW;
/// Of these what a user namespace can take away from a mount of its parent (mount_namespaces(7)).
pub const NEVER_LOCKED: u64 = NOSYMFOLLOW;

/// `(word, bits to set, bits to clear)`. With an `r` in front each works on the whole tree.
const ATTRIBUTE_WORDS: &[(&str, u64, u64)] = &[
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("noatime", NOATIME, ATIME),
    ("atime", 0, ATIME),
    ("relatime", 0, ATIME),
    ("norelatime", 0, ATIME),
    ("strictatime", STRICTATIME, ATIME),
    ("nostrictatime", 0, ATIME),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
];

/// The words of attributes and propagation, each also with an `r` in front.
pub fn attribute_words() -> Vec<String> {
    let attributes = ATTRIBUTE_WORDS.iter().map(|(word, ..)| *word);
    let all = attributes.chain(PROPAGATION_WORDS.iter().map(|(word, _)| *word));
    all.flat_map(|word| [word.to_owned(), format!("r{word}")])
        .collect()
}

const PROPAGATION_WORDS: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

impl Attributes {
    /// Whether the mount itself was to be read-only; it is no more.
    pub fn take_read_only(&mut self) -> bool {
        let was = self.own.set & RDONLY != 0;
        self.own.set &= !RDONLY;
        was
    }

    /// What to ask for of the mount itself, best first: all that was not said is taken away; without what old
    /// kernels do not know; without what may be locked; only what was said. No more than differ, and none for nothing.
    pub fn tries(&self) -> impl Iterator<Item = MountAttr> {
        let of = [
            self.unsaid,
            self.unsaid & !NEVER_LOCKED,
            self.unsaid & NEVER_LOCKED,
            0,
        ];
        let own = self.own;
        let nothing = self.unsaid == 0 && own == MountAttr::default();
        let first = if nothing { of.len() } else { 0 };
        let mut last = None;
        of.into_iter().skip(first).filter_map(move |unsaid| {
            let new = last.replace(unsaid) != Some(unsaid);
            new.then_some(MountAttr {
                clear: own.clear | unsaid,
                ..own
            })
        })
    }

    /// What mount(2) makes of the words said of a bind mount.
    pub(super) fn of_bind(&mut self, times: &MountAttr) {
        const TIMES: u64 = ATIME | NODIRATIME;
        self.own.set = (self.own.set & !TIMES) | times.set;
        self.own.clear = (self.own.clear & !TIMES) | times.clear;
        self.unsaid &= !(self.own.set | self.own.clear);
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        if let Some(&(_, set, clear)) = ATTRIBUTE_WORDS.iter().find(|(w, ..)| *w == word) {
            change(&mut self.own, set, clear);
            self.unsaid = ANEW;
            return true;
        }
        if let Some(&(_, flag)) = PROPAGATION_WORDS.iter().find(|(w, _)| *w == word) {
            self.propagation = flag;
            return true;
        }
        let Some(deep) = word.strip_prefix('r') else {
            return false;
        };
        if let Some(&(_, set, clear)) = ATTRIBUTE_WORDS.iter().find(|(w, ..)| *w == deep) {
            change(&mut self.deep, set, clear);
            return true;
        }
        if let Some(&(_, flag)) = PROPAGATION_WORDS.iter().find(|(w, _)| *w == deep) {
            self.deep_propagation = flag;
            return true;
        }
        false
    }
}

/// What the words about times of access, in their order, make of a bind mount: one that sets something sets all of
/// it anew, one that only takes back what was not said before changes nothing (mount(2), `MS_REMOUNT`).
pub(super) fn times<'w>(words: impl Iterator<Item = &'w str>) -> MountAttr {
    let (mut none, mut relative, mut strict, mut directories) = (false, false, false, false);
    for word in words {
        match word {
            "noatime" => none = true,
            "atime" => none = false,
            "relatime" => relative = true,
            "norelatime" => relative = false,
            "strictatime" => strict = true,
            "nostrictatime" => strict = false,
            "nodiratime" => directories = true,
            "diratime" => directories = false,
            _ => {}
        }
    }
    if !(none || relative || strict || directories) {
        return MountAttr::default();
    }
    let which = match (strict, none) {
        (true, _) => STRICTATIME,
        (false, true) => NOATIME,
        (false, false) => 0,
    };
    let (set, clear) = match directories {
        true => (NODIRATIME, 0),
        false => (0, NODIRATIME),
    };
    MountAttr {
        set: which | set,
        clear: ATIME | clear,
        ..MountAttr::default()
    }
}

/// The last word wins, as on the command line of mount(8).
fn change(attr: &mut MountAttr, set: u64, clear: u64) {
    attr.set = (attr.set & !clear & !set) | set;
    attr.clear = (attr.clear & !set) | clear;
}

impl Attributes {
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (attr, prefix) in [(&self.own, ""), (&self.deep, "r")] {
            for (word, set, clear) in ATTRIBUTE_WORDS {
                let said = if *set != 0 {
                    attr.set & set == *set
                } else {
                    matches!(*word, "rw" | "suid" | "dev" | "exec") && attr.clear & clear != 0
                };
                if said {
                    words.push(format!("{prefix}{word}"));
                }
            }
        }
        for (flag, prefix) in [(self.propagation, ""), (self.deep_propagation, "r")] {
            let word = PROPAGATION_WORDS.iter().find(|(_, f)| *f == flag);
            words.extend(word.map(|(word, _)| format!("{prefix}{word}")));
        }
        words
    }
}
