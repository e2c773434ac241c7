//! Bundles on disk: whole or not at all, switched atomically, kept while needed.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation is the failure of the test"
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use metactl_bundles::bundle::{
    self, BundleError, Composition, activate, current, prune, read_manifest, write, write_redacted,
};
use support::private::{must, private_host};
use support::{compose, debian, placement, seed_app};

/// A bundle of this user, so that `data/` need not be given away.
fn composition(state: &Path) -> Composition {
    let mut place = placement(state, &state.join("releases/1"));
    place.uid = rustix::process::geteuid().as_raw();
    place.gid = rustix::process::getegid().as_raw();
    compose(&seed_app("jetty9"), &place, &debian())
}

/// Every path below a folder with its mode and, for files, its content.
fn tree(dir: &Path) -> BTreeSet<(PathBuf, u32, Vec<u8>)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = match () {
                () if meta.is_file() => fs::read(&path).unwrap(),
                () if meta.is_symlink() => fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
                () => Vec::new(),
            };
            let name = path.strip_prefix(dir).unwrap().to_path_buf();
            found.insert((name, meta.permissions().mode(), content));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_bundle_is_written_once_and_is_roots_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("myapp");
    let composition = composition(&state);
    let written = write(&composition, &state).unwrap();
    assert!(written.is_new);
    assert_eq!(written.dir, state.join("bundles").join(&written.digest));
    assert_eq!(written.digest, composition.digest());
    assert_eq!(mode(&state.join("bundles")), 0o700);
    assert_eq!(mode(&written.dir), 0o700);
    assert_eq!(mode(&written.dir.join("rootfs")), 0o755);
    assert_eq!(mode(&written.dir.join("webapp/config.json")), 0o600);
    assert_eq!(mode(&state.join("data")), 0o750);
    assert_eq!(mode(&state.join("tmp/cron.daily-housekeeping")), 0o1777);
    assert_eq!(mode(&state.join("etc/hosts")), 0o644);
    for path in composition.items.keys() {
        assert!(
            written.dir.join(path).symlink_metadata().is_ok(),
            "{}",
            path.display()
        );
    }

    fs::write(state.join("etc/hosts"), "changed while it ran\n").unwrap();
    let before = tree(&state);
    let again = write(&composition, &state).unwrap();
    assert!(!again.is_new);
    assert_eq!(again.dir, written.dir);
    assert_eq!(tree(&state), before);
}

#[test]
fn two_writes_elsewhere_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let composition = composition(&dir.path().join("myapp"));
    let one = write(&composition, &dir.path().join("one")).unwrap();
    let two = write(&composition, &dir.path().join("two")).unwrap();
    assert_eq!(tree(&one.dir), tree(&two.dir));
}

#[test]
fn the_link_is_the_commit_point() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("myapp");
    fs::create_dir(&state).unwrap();
    assert_eq!(current(&state).unwrap(), None);
    let first = write(&composition(&state), &state).unwrap();
    assert_eq!(current(&state).unwrap(), None);
    activate(&state, &first.digest).unwrap();
    assert_eq!(current(&state).unwrap(), Some(first.dir.clone()));
    assert_eq!(
        fs::read_link(state.join("bundle")).unwrap(),
        Path::new("bundles").join(&first.digest)
    );

    let manifest = read_manifest(&state.join("bundle")).unwrap();
    assert_eq!(manifest.digest.as_deref(), Some(first.digest.as_str()));
    assert_eq!(manifest.entries.len(), 4);

    // What was left by an activation that was cut off does not stand in the way of the next.
    symlink("nowhere", state.join(".bundle-unfinished")).unwrap();
    activate(&state, &first.digest).unwrap();
    for missing in ["0123456789abcdef", "../bundles", ""] {
        let error = activate(&state, missing).unwrap_err();
        assert!(
            matches!(error, BundleError::Missing { .. }),
            "{missing}: {error}"
        );
    }
    assert_eq!(current(&state).unwrap(), Some(first.dir));
}

#[test]
fn a_link_that_leads_elsewhere_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    for target in ["/etc", "bundles/gone", "releases/1"] {
        symlink(target, state.join("bundle")).unwrap();
        let error = current(state).unwrap_err();
        assert!(error.to_string().contains(target), "{error}");
        fs::remove_file(state.join("bundle")).unwrap();
    }
}

#[test]
fn pruning_keeps_what_runs_and_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("myapp");
    let mut digests = Vec::new();
    for release in ["1", "2", "3"] {
        let mut place = placement(&state, &state.join("releases").join(release));
        place.uid = rustix::process::geteuid().as_raw();
        let composition = compose(&seed_app("jetty9"), &place, &debian());
        digests.push(write(&composition, &state).unwrap().digest);
    }
    activate(&state, &digests[1]).unwrap();
    let removed = prune(&state, &digests[..1]).unwrap();
    assert_eq!(removed, digests[2..]);
    assert!(state.join("bundles").join(&digests[0]).is_dir());
    assert!(state.join("bundles").join(&digests[1]).is_dir());
    assert_eq!(
        prune(&dir.path().join("other"), &[]).unwrap(),
        Vec::<String>::new()
    );
}

#[test]
fn what_a_dead_process_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("myapp");
    // No pid is that large (proc_sys_kernel(5), pid_max).
    let left = state.join("bundles/.unfinished-2147483647");
    fs::create_dir_all(left.join("rootfs")).unwrap();
    write(&composition(&state), &state).unwrap();
    assert!(!left.exists());
}

#[test]
fn data_of_somebody_else_are_not_given_away() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP data_of_somebody_else_are_not_given_away: it needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("myapp");
    let place = placement(&state, &state.join("releases/1"));
    let composition = compose(&seed_app("jetty9"), &place, &debian());
    write(&composition, &state).unwrap();
    let data = state.join("data");
    assert_eq!(fs::metadata(&data).unwrap().uid(), place.uid);

    let mut other = place.clone();
    other.uid = 66001;
    let other = compose(&seed_app("jetty9"), &other, &debian());
    // Empty: nothing is lost.
    write(&other, &state).unwrap();
    assert_eq!(fs::metadata(&data).unwrap().uid(), 66001);
    fs::write(data.join("orders.db"), "").unwrap();
    let before = tree(&state);
    // A bundle that was new is taken back, too.
    let mut third = place;
    third.uid = 66002;
    let error = write(&compose(&seed_app("jetty9"), &third, &debian()), &state).unwrap_err();
    assert!(
        matches!(
            error,
            BundleError::Owner {
                found: 66001,
                wanted: 66002,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(tree(&state), before);
}

#[test]
fn a_redacted_copy_goes_into_a_new_folder() {
    let dir = tempfile::tempdir().unwrap();
    let composition = composition(&dir.path().join("myapp"));
    let out = dir.path().join("for-audit");
    write_redacted(&composition, &out).unwrap();
    for (path, _, content) in tree(&out) {
        let text = String::from_utf8_lossy(&content).into_owned();
        assert!(!text.contains(":secret@"), "{}", path.display());
    }
    let error = write_redacted(&composition, &out).unwrap_err();
    assert!(error.to_string().contains("for-audit"), "{error}");
    assert!(out.join("manifest.json").is_file(), "what was there stays");
}

#[test]
fn manifests_of_another_format_are_not_guessed_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifest.json");
    for (text, word) in [
        (r#"{"format": 2}"#, "format 2"),
        ("{", "EOF"),
        (r#"{"format": 1}"#, "missing field"),
    ] {
        fs::write(&path, text).unwrap();
        let error = read_manifest(dir.path()).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = read_manifest(dir.path()).unwrap_err();
    assert!(matches!(error, BundleError::Missing { .. }), "{error}");
}

/// Fills a small file system at every possible step: each failure leaves it as it was.
fn full_disk(state: &Path, limits: impl Iterator<Item = String>) -> usize {
    fs::create_dir_all(state).unwrap();
    let mut failures = 0;
    for limit in limits {
        must(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &limit,
                "tmpfs",
                state.to_str().unwrap(),
            ],
        );
        let instance = state.join("myapp");
        let result = write(&composition(&instance), &instance);
        let left = tree(state);
        let is_done = result.is_ok();
        if let Err(error) = result {
            failures += 1;
            let text = error.to_string();
            assert!(text.contains(state.to_str().unwrap()), "{limit}: {text}");
            assert!(
                text.contains("No space left") && text.contains("make room"),
                "{limit}: {text}"
            );
            assert!(left.is_empty(), "{limit}: {left:?}");
        }
        must("umount", &[state.to_str().unwrap()]);
        if is_done {
            return failures;
        }
    }
    panic!("it never fitted");
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    if !private_host("a_full_disk_leaves_nothing_behind", &["umount"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let bytes = full_disk(&state, (1..400).map(|pages| format!("size={}k", pages * 4)));
    assert!(bytes > 10, "{bytes}");
    let inodes = full_disk(&state, (2..400).map(|inodes| format!("nr_inodes={inodes}")));
    assert!(inodes > 50, "{inodes}");
}

#[test]
fn a_full_disk_leaves_the_old_bundle_as_it_was() {
    if !private_host("a_full_disk_leaves_the_old_bundle_as_it_was", &["umount"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("myapp");
    fs::create_dir(&state).unwrap();
    must(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "size=1m",
            "tmpfs",
            state.to_str().unwrap(),
        ],
    );
    let old = write(&composition(&state), &state).unwrap();
    activate(&state, &old.digest).unwrap();
    // Fills what is left.
    let filler = state.join("data/filler");
    let _ = fs::write(&filler, vec![b'x'; 2 << 20]);
    let before = tree(&state);
    let mut place = placement(&state, &state.join("releases/2"));
    place.uid = rustix::process::geteuid().as_raw();
    let new = compose(&seed_app("jetty9"), &place, &debian());
    let error = write(&new, &state).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(tree(&state), before);
    assert_eq!(current(&state).unwrap(), Some(old.dir.clone()));
    // Stopping and going back need no space: the old one is read and switched to.
    assert_eq!(read_manifest(&old.dir).unwrap().entries.len(), 4);
    activate(&state, &old.digest).unwrap();
    must("umount", &[state.to_str().unwrap()]);
    let _ = bundle::current(&state);
}
