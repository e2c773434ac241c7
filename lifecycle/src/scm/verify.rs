//! Who signed a tag of git.
//!
//! The tag object itself is taken apart: what was signed has to name the tag that was asked for, so
//! that an old signed tag cannot stand in for a new one; and the signature has to be by one of the
//! keys of the file that the configuration names, whatever else the caller's own keys are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use metactl_bundles::app::Verify;

use super::{command, printable, said};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;

/// How long the tools may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PGP: &str = "-----BEGIN PGP SIGNATURE-----";
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";

/// A tag object: what was signed, and the signature.
struct Signed<'a> {
    data: &'a str,
    signature: &'a str,
}

/// Checks the tag object `text` of the tag `tag`. `scratch` is a place for files of its own.
pub(super) fn check(text: &[u8], tag: &str, keys: &Verify, scratch: &Path) -> Result<()> {
    let refused = |why: String| LifecycleError::Unsigned {
        tag: printable(tag, 80),
        why,
    };
    let text = std::str::from_utf8(text).map_err(|_| refused("it is not text".to_owned()))?;
    let signed = take_apart(text).ok_or_else(|| refused("it has no signature".to_owned()))?;
    let head = signed.data.split("\n\n").next().unwrap_or_default();
    let names: Vec<&str> = head
        .lines()
        .filter_map(|line| line.strip_prefix("tag "))
        .collect();
    if names != [tag] {
        let other = printable(&names.join(", "), 80);
        return Err(refused(format!("what was signed is the tag {other:?}")));
    }
    let is_ssh = signed.signature.starts_with(SSH);
    let key = if is_ssh { &keys.ssh } else { &keys.gpg };
    let Some(key) = key else {
        let kind = if is_ssh { "SSH" } else { "GPG" };
        return Err(refused(format!(
            "no key for signatures of {kind} is trusted"
        )));
    };
    let files = Scratch::new(scratch, &signed)?;
    let checked = match is_ssh {
        true => ssh(key, &files),
        false => gpg(key, &files),
    };
    files.remove()?;
    checked?.map_err(refused)
}

/// The signature begins at the last line that looks like one (git's own rule: gpg-interface.c).
fn take_apart(text: &str) -> Option<Signed<'_>> {
    let starts = [PGP, SSH].map(|mark| text.rfind(&format!("\n{mark}")));
    let at = starts.into_iter().flatten().max()? + 1;
    Some(Signed {
        data: &text[..at],
        signature: &text[at..],
    })
}

/// gpgv(1) knows no other keys than those it is given.
fn gpg(keys: &Path, files: &Scratch) -> Result<std::result::Result<(), String>> {
    let text = files::read(keys)?.ok_or_else(|| missing("verify.gpg", keys))?;
    if text.starts_with(b"-----BEGIN") {
        return Err(LifecycleError::Setting {
            what: format!("[build] verify.gpg: {} is armoured", keys.display()),
            hint: "gpg --export KEY > FILE, without --armor".to_owned(),
        });
    }
    let mut gpgv = tool("gpgv");
    gpgv.arg("--homedir").arg(&files.dir);
    gpgv.arg("--keyring").arg(keys);
    gpgv.arg(&files.signature).arg(&files.data);
    run(gpgv, "gpgv", "gpgv", None)
}

/// ssh-keygen(1), `-Y`: first whose key it is, then whether the signature is good.
fn ssh(signers: &Path, files: &Scratch) -> Result<std::result::Result<(), String>> {
    if !signers.is_file() {
        return Err(missing("verify.ssh", signers));
    }
    let mut find = tool("ssh-keygen");
    find.args(["-Y", "find-principals", "-f"]).arg(signers);
    find.arg("-s").arg(&files.signature);
    let output = output(find, "ssh-keygen", "openssh-client", None)?;
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let principal = found.lines().next().map(str::trim).unwrap_or_default();
    if !output.status.success() || principal.is_empty() || principal.starts_with('-') {
        return Ok(Err(format!("its key is not in {}", signers.display())));
    }
    let mut verify = tool("ssh-keygen");
    verify
        .args(["-Y", "verify", "-n", "git", "-f"])
        .arg(signers);
    verify.args(["-I", principal, "-s"]).arg(&files.signature);
    let data = fs::read(&files.data).on("read", &files.data)?;
    run(verify, "ssh-keygen", "openssh-client", Some(data))
}

fn missing(key: &str, path: &Path) -> LifecycleError {
    LifecycleError::Setting {
        what: format!("[build] {key}: {} is not there", path.display()),
        hint: "write the keys of those who may sign tags into it".to_owned(),
    }
}

fn tool(name: &str) -> Command {
    let mut tool = Command::new(name);
    tool.env_clear()
        .env("PATH", metactl_bundles::view::PATH)
        .env("LC_ALL", "C.UTF-8");
    tool
}

fn output(
    tool: Command,
    name: &str,
    package: &str,
    input: Option<Vec<u8>>,
) -> Result<command::Output> {
    let output = command::run_with(tool, PATIENCE, input.unwrap_or_default());
    output.map_err(|error| LifecycleError::Unavailable {
        what: format!("cannot run {name}: {error}"),
        hint: format!("apt-get install {package}"),
    })
}

fn run(
    tool: Command,
    name: &str,
    package: &str,
    input: Option<Vec<u8>>,
) -> Result<std::result::Result<(), String>> {
    let output = output(tool, name, package, input)?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let why = said(&output.stderr).or_else(|| said(&output.stdout));
    Ok(Err(why.unwrap_or_else(|| output.status.to_string())))
}

/// The two parts as files, for tools that take no other.
struct Scratch {
    dir: PathBuf,
    data: PathBuf,
    signature: PathBuf,
}

impl Scratch {
    fn new(dir: &Path, signed: &Signed<'_>) -> Result<Scratch> {
        files::remove_tree(dir)?;
        files::make_dir(dir, 0o700)?;
        let scratch = Scratch {
            data: dir.join("data"),
            signature: dir.join("signature"),
            dir: dir.to_path_buf(),
        };
        fs::write(&scratch.data, signed.data).on("write", &scratch.data)?;
        fs::write(&scratch.signature, signed.signature).on("write", &scratch.signature)?;
        Ok(scratch)
    }

    fn remove(&self) -> Result<()> {
        files::remove_tree(&self.dir).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_last_one() {
        let text = format!("object x\ntag 1.0\n\nquoted:\n{PGP}\nno\n{SSH}\nyes\n");
        let signed = take_apart(&text).unwrap();
        assert!(signed.data.ends_with("no\n") && signed.signature.ends_with("yes\n"));
        assert!(take_apart("object x\ntag 1.0\n\nno signature\n").is_none());
    }

    #[test]
    fn another_tag_of_the_same_signer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Verify {
            gpg: Some("/no/such/file".into()),
            ssh: None,
        };
        let text = format!("object x\ntype commit\ntag 1.0\ntagger x\n\ntag 2.0\n{PGP}\n");
        let check = |tag: &str| {
            let error = check(text.as_bytes(), tag, &keys, &dir.path().join("s")).unwrap_err();
            error.to_string()
        };
        assert!(
            check("2.0").contains("is the tag \"1.0\""),
            "{}",
            check("2.0")
        );
        assert!(check("1.0").contains("is not there"), "{}", check("1.0"));
    }
}
