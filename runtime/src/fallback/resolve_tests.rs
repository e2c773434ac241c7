//! The walk against the kernel's own resolution, and against somebody who exchanges things.

use super::*;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, ResolveFlags, openat2};

fn directory(path: &std::path::Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).unwrap()
}

/// What was reached, so that it can be compared.
fn identity(result: Result<OwnedFd, Errno>) -> Result<(u64, u64, u32), Errno> {
    let stat = fstat(result?)?;
    Ok((stat.st_dev, stat.st_ino, stat.st_mode))
}

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("a/b/c")).unwrap();
    fs::create_dir_all(at("etc")).unwrap();
    fs::write(at("a/file"), "x").unwrap();
    fs::write(at("etc/passwd"), "inside").unwrap();
    for (target, name) in [
        ("/a/b", "absolute"),
        ("a/b", "relative"),
        ("../../../../etc", "a/up"),
        ("/../../../etc/passwd", "climber"),
        ("../up/passwd", "a/b/chain"),
        ("self", "self"),
        ("/pong", "ping"),
        ("/ping", "pong"),
        ("nothing", "dangling"),
        ("a/file", "to-file"),
        ("a/b/", "slash"),
        (".", "dot"),
        ("/", "root"),
        ("file/x", "a/through-file"),
    ] {
        symlink(target, at(name)).unwrap();
    }
    // Forty links are followed, one more is not.
    symlink("a", at("l0")).unwrap();
    for n in 1..=41 {
        symlink(format!("l{}", n - 1), at(&format!("l{n}"))).unwrap();
    }
    tree
}

#[test]
fn the_walk_ends_where_the_kernel_does() {
    let tree = tree();
    let root = directory(tree.path());
    let mut paths: Vec<String> = [
        "",
        "/",
        "//",
        ".",
        "..",
        "/..",
        "../..",
        "a",
        "/a/",
        "a/b/c",
        "a//b/./c/",
        "a/b/../file",
        "a/file",
        "a/file/",
        "a/file/.",
        "a/file/..",
        "a/file/x",
        "a/nothing",
        "nothing/x",
        "absolute/c",
        "absolute/../b",
        "absolute/../../etc",
        "relative/..",
        "relative",
        "a/up",
        "a/up/passwd",
        "a/up/..",
        "climber",
        "climber/",
        "a/b/chain",
        "self",
        "self/x",
        "ping",
        "dangling",
        "dangling/x",
        "to-file",
        "to-file/",
        "slash",
        "slash/c",
        "dot/dot/dot/a",
        "root/root/a/b",
        "a/through-file",
        "l38",
        "l39",
        "l40",
        "l41",
        "l39/b",
        "../../../../../../../../etc/passwd",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.push(format!("a/{}", "x".repeat(255)));
    paths.push(format!("a/{}", "x".repeat(256)));
    for path in paths {
        let text = CString::new(path.clone()).unwrap();
        for strict in [false, true] {
            for flags in [
                OFlags::PATH,
                OFlags::PATH | OFlags::DIRECTORY,
                OFlags::PATH | OFlags::NOFOLLOW,
                OFlags::RDONLY,
                OFlags::RDONLY | OFlags::DIRECTORY,
                OFlags::RDONLY | OFlags::NOFOLLOW,
            ] {
                let mut how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                if strict {
                    how |= ResolveFlags::NO_SYMLINKS;
                }
                // EAGAIN: something was renamed somewhere on this machine (openat2(2)).
                let kernel = loop {
                    match openat2(&root, text.as_c_str(), flags, Mode::empty(), how) {
                        Err(Errno::AGAIN) => {}
                        result => break result,
                    }
                };
                let walk = in_root(root.as_fd(), &text, flags, strict);
                assert_eq!(
                    identity(walk),
                    identity(kernel),
                    "{path:?}, {flags:?}, strict: {strict}"
                );
            }
        }
    }
}

#[test]
fn magic_links_are_refused_and_ordinary_ones_of_procfs_are_not() {
    let top = directory(std::path::Path::new("/"));
    let walk = |path: &CStr| in_root(top.as_fd(), path, OFlags::PATH, false).map(drop);
    for path in [
        c"/proc/self/exe",
        c"/proc/self/root/etc",
        c"/proc/self/fd/0",
        c"/proc/1/cwd",
    ] {
        assert_eq!(walk(path), Err(Errno::LOOP), "{path:?}");
    }
    assert_eq!(walk(c"/proc/self/status"), Ok(()));
    assert_eq!(walk(c"/proc/mounts"), Ok(()));
}

#[test]
fn a_parameter_of_the_kernel_is_beneath_its_procfs() {
    let proc = procfs::open().unwrap();
    let open = |path: &CStr| beneath(proc.as_fd(), path, OFlags::RDONLY).map(drop);
    assert_eq!(open(c"sys/kernel/hostname"), Ok(()));
    assert_eq!(open(c"sys/./kernel/"), Ok(()));
    assert_eq!(open(c"self/status"), Err(Errno::LOOP));
    assert_eq!(open(c"sys/../sys/kernel/hostname"), Err(Errno::XDEV));
    assert_eq!(open(c"/proc/sys/kernel/hostname"), Err(Errno::XDEV));
    assert_eq!(open(c"sys/kernel/nothing"), Err(Errno::NOENT));
    // Another file system on the way.
    let top = directory(std::path::Path::new("/"));
    let out = beneath(top.as_fd(), c"proc/sys/kernel/hostname", OFlags::RDONLY);
    assert_eq!(out.map(drop), Err(Errno::XDEV));
}

/// CVE-2021-30465: 10,000 resolutions while somebody exchanges a directory and links to the outside.
#[test]
fn exchanging_things_never_leads_outside() {
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name);
    fs::create_dir_all(at("root/a/b")).unwrap();
    fs::create_dir_all(at("outside/b")).unwrap();
    fs::write(at("outside/b/secret"), "").unwrap();
    fs::write(at("root/a/b/secret"), "").unwrap();
    symlink(at("outside"), at("root/link")).unwrap();
    symlink("../outside", at("root/up")).unwrap();
    let root = directory(&at("root"));
    let wanted = identity(in_root(root.as_fd(), c"a/b/secret", OFlags::PATH, false)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Ordering::Relaxed) {
                for other in ["link", "up", "link"] {
                    rustix::fs::renameat_with(&root, "a", &root, other, flags).unwrap();
                    rustix::fs::renameat_with(&root, "a", &root, other, flags).unwrap();
                }
            }
        });
        let mut reached = 0;
        for round in 0..10_000 {
            let (path, flags) = if round % 2 == 0 {
                (c"a/b/secret", OFlags::PATH)
            } else {
                (c"a/b/../../a/b/secret", OFlags::RDONLY)
            };
            match identity(in_root(root.as_fd(), path, flags, false)) {
                Ok(found) => {
                    assert_eq!(found, wanted);
                    reached += 1;
                }
                Err(Errno::NOENT | Errno::AGAIN) => {}
                Err(e) => panic!("{e}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reached > 0, "the way was always blocked");
    });
}

/// Makes a directory, or a file when it is the last one.
fn make(parent: BorrowedFd<'_>, name: &CStr, last: bool) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o700);
    if last {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        openat(parent, name, flags, mode)?;
    } else {
        rustix::fs::mkdirat(parent, name, mode)?;
    }
    openat(parent, name, HOLD, Mode::empty())
}

#[test]
fn what_is_missing_is_made_where_symlinks_lead() {
    for (path, made) in [
        ("/new/er/file", "new/er/file"),
        ("/dangling", "nothing"),
        ("/dangling/x", "nothing/x"),
        ("/a/up/new", "etc/new"),
        ("/nowhere/x/y", "far/away/x/y"),
        ("/back", "etc/made"),
    ] {
        let tree = tree();
        symlink("/far/away", tree.path().join("nowhere")).unwrap();
        symlink("far/away/../../../../etc/made", tree.path().join("back")).unwrap();
        let root = directory(tree.path());
        let text = CString::new(path).unwrap();
        let reached = identity(making(root.as_fd(), &text, false, make)).unwrap();
        assert!(
            fs::metadata(tree.path().join(made)).unwrap().is_file(),
            "{path}"
        );
        let want = CString::new(made).unwrap();
        let want = in_root(root.as_fd(), &want, OFlags::PATH, true);
        assert_eq!(Ok(reached), identity(want), "{path}");
    }
}

#[test]
fn nothing_is_made_where_it_must_not_be() {
    let tree = tree();
    let root = directory(tree.path());
    for (path, strict, why) in [
        (c"/dangling", true, Errno::LOOP),
        (c"/relative/x", true, Errno::LOOP),
        (c"/ping/x", false, Errno::LOOP),
        (c"/a/file/x", false, Errno::NOTDIR),
        (c"/a/through-file", false, Errno::NOTDIR),
    ] {
        let made = making(root.as_fd(), path, strict, make);
        assert_eq!(made.map(drop), Err(why), "{path:?}");
    }
    assert!(!tree.path().join("nothing").exists());
    assert!(!tree.path().join("a/b/x").exists());
}
