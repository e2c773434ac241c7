//! Bundles under other runtimes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::{self, Background};
use crate::host::Host;

/// Starts a bundle with another runtime as it is, waits until it has written `text`, and ends it.
pub fn starts(host: &Host, runtime: &str, bundle: &Path, text: &str) {
    if runtime == "crun" && Path::new("/sys/fs/cgroup/unified").exists() {
        // crun refuses hierarchies of both versions side by side.
        host.command("umount", &["/sys/fs/cgroup/unified"]).ok();
        fs::remove_dir("/sys/fs/cgroup/unified").unwrap();
        host.is_settled();
    }
    let limit = Duration::from_secs(60);
    let root = host.work().join(runtime);
    let runtime_command = |args: &[&str]| {
        let mut command = Command::new(runtime);
        command.arg("--root").arg(&root).args(args);
        command
    };
    let mut run = runtime_command(&["run", "--bundle"]);
    run.arg(bundle).arg("under-test");
    let mut run = Background::spawn(run);
    run.wait_for(text, limit);
    // One that has ended is deleted already.
    command::run(runtime_command(&["delete", "--force", "under-test"]), limit);
    run.wait(limit);
    // These runtimes leave the parents of their cgroups.
    let cgroups = crate::machine::cgroups();
    for cgroup in cgroups
        .iter()
        .rev()
        .filter(|cgroup| cgroup.contains("/metactl"))
    {
        fs::remove_dir(cgroup).ok();
    }
}
