//! A single small file out of a war or jar file (PKWARE's APPNOTE.TXT, 4.3): nothing is unpacked.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::DeflateDecoder;

/// The end of the central directory, without its comment of up to 64 KiB.
const END: [u8; 4] = *b"PK\x05\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const END_SIZE: usize = 22;
/// The largest central directory that is looked through.
const MOST_DIRECTORY: u32 = 64 << 20;
/// The largest file that is read.
const MOST: u64 = 4 << 20;
/// Where it may be: at the top, or where build tools put resources.
const PLACES: &[&str] = &["", "META-INF/", "WEB-INF/classes/", "BOOT-INF/classes/"];

/// The content of the file `name`; `None` when it is not there.
pub(super) fn file(path: &Path, name: &str) -> Result<Option<Vec<u8>>, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let directory = directory(&mut file)?;
    for place in PLACES {
        let wanted = format!("{place}{name}");
        let mut rest = directory.as_slice();
        while let Some((entry, after)) = Entry::read(rest) {
            if entry.name == wanted.as_bytes() {
                return entry.content(&mut file).map(Some);
            }
            rest = after;
        }
    }
    Ok(None)
}

fn directory(file: &mut File) -> Result<Vec<u8>, String> {
    let broken = || "it is no zip file".to_owned();
    let length = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
    let tail = length.min(END_SIZE as u64 + 0xffff);
    let text = bytes(file, length - tail, tail)?;
    let mut at = text.len().checked_sub(END_SIZE).ok_or_else(broken)?;
    while text[at..at + 4] != END {
        at = at.checked_sub(1).ok_or_else(broken)?;
    }
    let end = &text[at..];
    let (size, offset) = (u32_at(end, 12), u32_at(end, 16));
    match (size, offset) {
        (Some(size), Some(offset)) if size <= MOST_DIRECTORY => {
            bytes(file, u64::from(offset), u64::from(size))
        }
        _ => Err(broken()),
    }
}

/// An entry of the central directory.
struct Entry<'a> {
    name: &'a [u8],
    method: u16,
    packed: u32,
    local: u32,
}

impl<'a> Entry<'a> {
    fn read(text: &'a [u8]) -> Option<(Entry<'a>, &'a [u8])> {
        if text.get(..4)? != ENTRY {
            return None;
        }
        let length = |at: usize| u16_at(text, at).map(usize::from);
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        let entry = Entry {
            name: text.get(46..46 + name)?,
            method: u16_at(text, 10)?,
            packed: u32_at(text, 20)?,
            local: u32_at(text, 42)?,
        };
        Some((entry, text.get(46 + name + extra + comment..)?))
    }

    fn content(&self, file: &mut File) -> Result<Vec<u8>, String> {
        let broken = || "an entry of it is broken".to_owned();
        let at = u64::from(self.local);
        let head = bytes(file, at, 30)?;
        if head.get(..4) != Some(&LOCAL) || u64::from(self.packed) > MOST {
            return Err(broken());
        }
        let name = u16_at(&head, 26).ok_or_else(broken)?;
        let extra = u16_at(&head, 28).ok_or_else(broken)?;
        let start = at + 30 + u64::from(name) + u64::from(extra);
        let packed = bytes(file, start, u64::from(self.packed))?;
        match self.method {
            0 => Ok(packed),
            8 => {
                let mut content = Vec::new();
                let mut unpacked = DeflateDecoder::new(packed.as_slice()).take(MOST + 1);
                unpacked
                    .read_to_end(&mut content)
                    .map_err(|error| error.to_string())?;
                match content.len() as u64 > MOST {
                    true => Err("its configuration is larger than any".to_owned()),
                    false => Ok(content),
                }
            }
            other => Err(format!("an entry of it is compressed by method {other}")),
        }
    }
}

fn bytes(file: &mut File, at: u64, length: u64) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.by_ref().take(length).read_to_end(&mut text))
        .map_err(|error| error.to_string())?;
    match text.len() as u64 == length {
        true => Ok(text),
        false => Err("it ends too early".to_owned()),
    }
}

fn u16_at(text: &[u8], at: usize) -> Option<u16> {
    let bytes = text.get(at..at + 2)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(text: &[u8], at: usize) -> Option<u32> {
    let bytes = text.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zip file with stored entries.
    fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, content) in entries {
            let at = out.len() as u32;
            let sizes = [(content.len() as u32).to_le_bytes(); 2].concat();
            let lengths = [(name.len() as u16).to_le_bytes(), [0; 2]].concat();
            out.extend([&LOCAL[..], &[0; 14], &sizes, &lengths].concat());
            out.extend(name.bytes().chain(content.iter().copied()));
            directory.extend([&ENTRY[..], &[0; 16], &sizes, &lengths, &[0; 10]].concat());
            directory.extend(at.to_le_bytes());
            directory.extend(name.bytes());
        }
        let at = out.len() as u32;
        out.extend(&directory);
        out.extend([&END[..], &[0; 8]].concat());
        out.extend((directory.len() as u32).to_le_bytes());
        out.extend(at.to_le_bytes());
        out.extend([0; 2]);
        out
    }

    #[test]
    fn the_file_is_found_where_build_tools_put_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jar");
        std::fs::write(&path, zip(&[("x", b"1"), ("META-INF/.metactl", b"two")])).unwrap();
        assert_eq!(file(&path, ".metactl").unwrap().unwrap(), b"two");
        assert_eq!(file(&path, "y").unwrap(), None);
    }

    #[test]
    fn broken_ones_are_told_and_nothing_worse() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jar");
        let whole = zip(&[(".metactl", b"0123456789")]);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(file(&path, ".metactl").is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0xff;
            std::fs::write(&path, bad).unwrap();
            // Whatever comes of it, it ends.
            let _any = file(&path, ".metactl");
        }
    }
}
