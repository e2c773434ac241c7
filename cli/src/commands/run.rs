//! `metactl run PATH|APP`: in the foreground, with nothing installed.

use std::ffi::OsStr;
use std::path::Path;

use metactl_lifecycle::RunTarget;

use super::Context;
use crate::args::Run;
use crate::failure::{Failure, Outcome};

/// Runs an application to its end; the exit code is its own.
pub fn run(context: &mut Context, args: &Run) -> Outcome {
    let target = target(&args.target)?;
    let mut steps = context.steps();
    let code = context
        .manager
        .run_foreground(&target, args.entry.as_deref(), &mut steps)?;
    drop(steps);
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Code(code)),
        // No process ends like this; should it ever, it is no success.
        Err(_) => Err(Failure::Code(u8::MAX)),
    }
}

/// A directory when it looks like one (a slash, or a `.metactl` in it), else an instance.
fn target(word: &OsStr) -> Result<RunTarget, Failure> {
    let path = Path::new(word);
    let has_slash = path.components().count() != 1 || path.is_absolute() || ends_in_slash(word);
    let is_dots = word == "." || word == "..";
    if has_slash || is_dots || path.join(".metactl").exists() {
        return Ok(RunTarget::Path(path.to_owned()));
    }
    let name = word.to_str().ok_or_else(|| {
        Failure::usage(format!(
            "{} is neither a directory nor an instance",
            path.display()
        ))
    })?;
    Ok(RunTarget::App(name.to_owned()))
}

fn ends_in_slash(word: &OsStr) -> bool {
    word.as_encoded_bytes().ends_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_instances_are_told_apart() {
        let path = |word: &str| matches!(target(OsStr::new(word)), Ok(RunTarget::Path(path)) if path == Path::new(word));
        assert!(path("./hello") && path("examples/hello") && path("/srv/hello"));
        assert!(path(".") && path("..") && path("hello/"));
        assert!(!path("hello"));
    }
}
