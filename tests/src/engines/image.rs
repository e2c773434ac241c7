//! A small image that the tests make themselves: busybox and two accounts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::host::Host;

/// The image, for root.
pub const IMAGE: &str = "localhost/metactl-test:1";
/// The same files, for the user `worker` in `/tmp`.
pub const WORKER_IMAGE: &str = "localhost/metactl-test:worker";

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n";
const GROUP: &str = "root:x:0:\nworker:x:1000:\nextra:x:2000:worker\n";

/// An image in the files of the host.
#[derive(Debug)]
pub struct Image {
    /// Its root tree.
    pub rootfs: PathBuf,
    /// The root tree as a tar archive.
    pub layer: PathBuf,
    /// [`IMAGE`] and [`WORKER_IMAGE`] as one archive in Docker's format.
    pub archive: PathBuf,
}

impl Image {
    /// Makes an image of this machine's busybox below `dir`.
    pub fn make(host: &Host, dir: &Path) -> Image {
        let (parts, rootfs) = (dir.join("image"), dir.join("rootfs"));
        fs::create_dir_all(&parts).unwrap();
        fill(host, &rootfs);
        let layer = parts.join("layer.tar");
        tar(host, &rootfs, &layer, ".");
        let sum = host
            .command("sha256sum", &[layer.to_str().unwrap()])
            .ok()
            .stdout;
        let digest = format!("sha256:{}", sum.split(' ').next().unwrap());
        let root = json!({"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]});
        let mut worker = root.clone();
        worker["User"] = json!("worker");
        worker["WorkingDir"] = json!("/tmp");
        write(&parts.join("root.json"), &config(&root, &digest));
        write(&parts.join("worker.json"), &config(&worker, &digest));
        let part = |config: &str, tag: &str| json!({"Config": config, "RepoTags": [tag], "Layers": ["layer.tar"]});
        let manifest = json!([part("root.json", IMAGE), part("worker.json", WORKER_IMAGE)]);
        write(&parts.join("manifest.json"), &manifest);
        let archive = dir.join("image.tar");
        tar(host, &parts, &archive, ".");
        Image {
            rootfs,
            layer,
            archive,
        }
    }
}

/// busybox with a link for each of its commands, and what programs expect around it.
fn fill(host: &Host, rootfs: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var/tmp"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    for dir in ["tmp", "var/tmp"] {
        fs::set_permissions(rootfs.join(dir), fs::Permissions::from_mode(0o1777)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|dir| dir.join("busybox"));
    let busybox = candidates
        .find(|file| file.is_file())
        .expect("busybox is a need of these tests");
    fs::copy(busybox, rootfs.join("bin/busybox")).unwrap();
    // This fails with one that is not static (the package busybox instead of busybox-static).
    let install = [
        rootfs.to_str().unwrap(),
        "/bin/busybox",
        "--install",
        "-s",
        "/bin",
    ];
    host.command("chroot", &install).ok();
    fs::write(rootfs.join("etc/passwd"), PASSWD).unwrap();
    fs::write(rootfs.join("etc/group"), GROUP).unwrap();
    fs::write(rootfs.join("etc/from-image"), "from the image\n").unwrap();
}

fn config(process: &Value, layer: &str) -> Value {
    json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created_by": "metactl-tests"}],
    })
}

fn write(path: &Path, json: &Value) {
    fs::write(path, json.to_string()).unwrap();
}

fn tar(host: &Host, dir: &Path, to: &Path, what: &str) {
    let (dir, to) = (dir.to_str().unwrap(), to.to_str().unwrap());
    // A file must not be written into the archive that it is.
    let target = format!("{to}.new");
    host.command("tar", &["-C", dir, "--exclude=*.new", "-cf", &target, what])
        .ok();
    fs::rename(target, to).unwrap();
}
