//! Archives, most of them hostile.

use std::io::Write;

use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        Place { dir }
    }

    /// A tar file with entries as they are: kind, path, content or link.
    fn tar(&self, entries: &[(EntryType, &str, &str)]) -> Archive {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, path, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o6755);
            // Past the checks of the builder, as an attacker would.
            let field = &mut header.as_old_mut().name;
            field[..path.len()].copy_from_slice(path.as_bytes());
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if is_link {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
                header.set_size(0);
            } else {
                header.set_size(text.len() as u64);
            }
            header.set_cksum();
            let content: &[u8] = if is_link { b"" } else { text.as_bytes() };
            builder.append(&header, content).unwrap();
        }
        let path = self.dir.path().join("a.tar");
        fs::write(&path, builder.into_inner().unwrap()).unwrap();
        Archive::new(path.to_str().unwrap())
    }

    fn unpack(&self, archive: &Archive) -> Result<PathBuf> {
        let to = self.dir.path().join("to");
        files::remove_tree(&to).unwrap();
        fs::create_dir(&to).unwrap();
        let revision = archive.fetch("")?;
        archive.checkout(&revision, &to).map(|()| to)
    }
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn what_is_in_it_is_unpacked_without_its_only_folder() {
    let place = Place::new();
    let archive = place.tar(&[
        (EntryType::Directory, "app-1.2/", ""),
        (FILE, "app-1.2/.metactl", "[daemon.a]\n"),
        (FILE, "app-1.2/bin/run", "x"),
        (EntryType::Link, "app-1.2/bin/same", "app-1.2/bin/run"),
        (EntryType::Symlink, "app-1.2/link", "bin/run"),
        (FILE, "app-1.2/bin/run", "later"),
    ]);
    let to = place.unpack(&archive).unwrap();
    assert_eq!(fs::read_to_string(to.join("bin/run")).unwrap(), "later");
    assert_eq!(fs::read_to_string(to.join("bin/same")).unwrap(), "x");
    assert_eq!(
        fs::read_link(to.join("link")).unwrap(),
        Path::new("bin/run")
    );
    let mode = fs::metadata(to.join("bin/run"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-uid bit");
    let revision = archive.fetch("").unwrap();
    assert_eq!((revision.tag.as_str(), revision.is_tag), ("a.tar", false));
    let text = archive.file(&revision, ".metactl").unwrap().unwrap();
    assert_eq!(text, b"[daemon.a]\n");
}

#[test]
fn what_leads_out_is_refused_and_nothing_is_there() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    let absolute = outside.display().to_string();
    type Entries<'a> = &'a [(EntryType, &'a str, &'a str)];
    let cases: &[(Entries<'_>, &str)] = &[
        (&[(FILE, "../outside", "x")], "leads out"),
        (&[(FILE, "a/../../outside", "x")], "leads out"),
        (&[(FILE, &absolute, "x")], "leads out"),
        (&[(EntryType::Link, "a", "/etc/passwd")], "leads out"),
        (&[(EntryType::Link, "a", "../../etc/passwd")], "leads out"),
        (
            &[(EntryType::Char, "null", "")],
            "is no file, folder or link",
        ),
        (
            &[(EntryType::Block, "disk", "")],
            "is no file, folder or link",
        ),
        (
            &[(EntryType::Fifo, "fifo", "")],
            "is no file, folder or link",
        ),
        (
            &[
                (EntryType::Symlink, "d", ".."),
                (EntryType::Symlink, "d/outside", "/etc"),
            ],
            "below a link",
        ),
        (
            &[(EntryType::Symlink, "d", ".."), (FILE, "d/outside", "x")],
            "is a folder and a link",
        ),
        (
            &[
                (EntryType::Symlink, "d", "/etc/passwd"),
                (EntryType::Link, "copy", "d"),
            ],
            "No such file",
        ),
    ];
    for (entries, why) in cases {
        let archive = place.tar(entries);
        let error = place.unpack(&archive).unwrap_err().to_string();
        assert!(error.contains(why), "{entries:?}: {error}");
        assert!(!outside.exists(), "{entries:?}");
    }
}

#[test]
fn a_bomb_does_not_fill_the_disk() {
    let place = Place::new();
    let mut unpacking = Unpacking::into(place.dir.path()).unwrap();
    unpacking.room = 1000;
    let mut zeros = io::repeat(0);
    let target = place.dir.path().join("zeros");
    let error = unpacking.file(&mut zeros, &target, 0o644).unwrap_err();
    assert!(error.contains("more than there is room for"), "{error}");
    assert_eq!(fs::metadata(&target).unwrap().len(), 1001);
}

#[test]
fn compressed_and_changed_ones_are_seen() {
    let place = Place::new();
    place.tar(&[(FILE, "a", "1"), (FILE, "b", "2")]);
    let plain = fs::read(place.dir.path().join("a.tar")).unwrap();
    let path = place.dir.path().join("a.tar.gz");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let packed = gz.finish().unwrap();
    fs::write(&path, &packed).unwrap();
    let archive = Archive::new(path.to_str().unwrap());
    let to = place.unpack(&archive).unwrap();
    assert_eq!(fs::read_to_string(to.join("b")).unwrap(), "2");
    let revision = archive.fetch("").unwrap();
    fs::write(&path, [packed.as_slice(), b"\0"].concat()).unwrap();
    files::empty_dir(&to).unwrap();
    let error = archive.checkout(&revision, &to).unwrap_err();
    assert!(error.to_string().contains("unpack"), "{error}");
    fs::write(&path, &packed[..packed.len() / 2]).unwrap();
    assert!(place.unpack(&archive).is_err());
}
