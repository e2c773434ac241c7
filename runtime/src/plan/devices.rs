//! Device nodes and links below `/dev`.

use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::spec::{Bundle, SpecError, clean_path};

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStep {
    /// Absolute path inside the root.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// The devices that every container has (runtime-spec, config-linux, "Default Devices"); the
/// console is made together with the terminal, `ptmx` is a link.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links that every container has (runtime-spec, runtime-linux, "Dev symbolic links").
pub const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The steps for all devices: the default ones, with those of `linux.devices` in place of or
/// after them.
pub fn steps(bundle: &Bundle, devices: &[LinuxDevice]) -> Result<Vec<DeviceStep>, SpecError> {
    let mut steps: Vec<DeviceStep> = DEFAULT
        .iter()
        .map(|&(path, major, minor)| DeviceStep {
            path: PathBuf::from(path),
            kind: DeviceKind::Char,
            number: (major, minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for (at, device) in devices.iter().enumerate() {
        let step = step(bundle, at, device)?;
        // It is there already, and is the container's own.
        if step.path == Path::new("/dev/ptmx") && step.number == (5, 2) {
            continue;
        }
        match steps.iter_mut().find(|s| s.path == step.path) {
            Some(same) => *same = step,
            None => steps.push(step),
        }
    }
    Ok(steps)
}

fn step(bundle: &Bundle, at: usize, device: &LinuxDevice) -> Result<DeviceStep, SpecError> {
    let field = |name: &str| format!("linux.devices[{at}].{name}");
    let path = clean_path(device.path()).map_err(|why| bundle.invalid(field("path"), why))?;
    if path == Path::new("/") {
        return Err(bundle.invalid(field("path"), "is the root"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(bundle.invalid(field("type"), "must be c, b, u or p")),
    };
    let number = |name: &str, value: i64, bits: u32| {
        let fits = u32::try_from(value).ok().filter(|v| *v < 1 << bits);
        fits.ok_or_else(|| bundle.invalid(field(name), format!("{value} is out of range")))
    };
    let number = match kind {
        DeviceKind::Fifo => (0, 0),
        // The kernel's dev_t has 12 bits for the major and 20 for the minor number.
        _ => (
            number("major", device.major(), 12)?,
            number("minor", device.minor(), 20)?,
        ),
    };
    Ok(DeviceStep {
        path,
        kind,
        number,
        mode: device.file_mode().unwrap_or(0o666) & 0o777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

impl fmt::Display for DeviceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.number;
        let path = self.path.display();
        match self.kind {
            DeviceKind::Char => write!(f, "device {path}: char {major}:{minor}")?,
            DeviceKind::Block => write!(f, "device {path}: block {major}:{minor}")?,
            DeviceKind::Fifo => write!(f, "named pipe {path}")?,
        }
        write!(f, ", mode {:04o}", self.mode)?;
        if (self.uid, self.gid) == (0, 0) {
            Ok(())
        } else {
            write!(f, ", owner {}:{}", self.uid, self.gid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_the_bundle_join_the_default_ones() {
        let text = r#"{"ociVersion": "1.2.0", "root": {"path": "r"}, "linux": {"namespaces":
            [{"type": "mount"}]}, "process": {"user": {}, "args": ["x"], "cwd": "/"}}"#;
        let bundle = Bundle::parse(Path::new("/b"), text.as_bytes().to_vec()).unwrap();
        let list = r#"[{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200,
            "fileMode": 432, "uid": 5, "gid": 6},
            {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
            {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 384}]"#;
        let list: Vec<LinuxDevice> = serde_json::from_str(list).unwrap();
        let steps = steps(&bundle, &list).unwrap();
        assert_eq!(steps.len(), DEFAULT.len() + 1);
        let text: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert!(
            text.contains(&"device /dev/tty: char 5:0, mode 0600".to_owned()),
            "{text:?}"
        );
        let tun = "device /dev/net/tun: char 10:200, mode 0660, owner 5:6";
        assert_eq!(text.last().unwrap(), tun);

        let bad = r#"[{"path": "/dev/x", "type": "c", "major": 4096, "minor": 0}]"#;
        let bad: Vec<LinuxDevice> = serde_json::from_str(bad).unwrap();
        assert!(
            super::steps(&bundle, &bad)
                .unwrap_err()
                .to_string()
                .contains("major")
        );
    }
}
