//! What builds a checkout when no command says so: the file that a build tool looks for tells.

use std::path::{Path, PathBuf};

use metactl_bundles::app::Tool;
use serde_json::Value;

use crate::error::{LifecycleError, Result};

/// Where `nla-deploy.sh` puts what it makes, in the checkout.
const NLA_TARGET: &str = "nla-target";
const VENV: &str = "python3 -m venv venv && venv/bin/pip install .";
/// The scripts of a virtual environment name its Python by where it was made; they run where releases are seen.
const MOVE_VENV: &str = "find venv/bin -type f -exec sed -i '1s,^#!/src/venv/,#!/app/venv/,' {} +";
/// How much of a package.json is read.
const MOST: usize = 4 << 20;

/// How a checkout is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// For `/bin/sh`.
    pub(crate) command: String,
    /// For people.
    pub(crate) shown: String,
    /// What becomes the release when `output` does not say.
    pub(crate) output: Option<PathBuf>,
}

/// The recipe of `tool`, or of the first one whose file is in `src`; `None` when nothing has to be
/// built.
pub(crate) fn recipe(tool: Tool, src: &Path, skip_tests: bool) -> Result<Option<Recipe>> {
    let tool = match tool {
        Tool::Auto => match found(src) {
            Some(tool) => tool,
            None => return Ok(None),
        },
        Tool::None => return Ok(None),
        named => named,
    };
    let Some(file) = files_of(tool).iter().find(|name| is_file(src, name)) else {
        return Err(LifecycleError::Setting {
            what: format!(
                "[build] tool: there is no {} in the checkout",
                files_of(tool)[0]
            ),
            hint: "`tool = auto` looks for what is there; `command =` says how it is built"
                .to_owned(),
        });
    };
    let command = match tool {
        Tool::Nla => format!(
            "mkdir -p {NLA_TARGET} && exec bash nla-deploy.sh \"$PWD/{NLA_TARGET}\" \
             \"${{METACTL_SITE:-}}\" \"$METACTL_APP\""
        ),
        Tool::Maven => {
            let maven = wrapped(src, "mvnw", "mvn");
            let tests = if skip_tests { " -DskipTests" } else { "" };
            format!("{maven} -B{tests} package")
        }
        Tool::Gradle => {
            let gradle = wrapped(src, "gradlew", "gradle");
            let tests = if skip_tests { " -x test" } else { "" };
            format!("{gradle} --no-daemon --console=plain build{tests}")
        }
        Tool::Npm => npm(src, skip_tests),
        Tool::Cargo if skip_tests => "cargo build --release".to_owned(),
        Tool::Cargo => "cargo build --release && cargo test --release".to_owned(),
        Tool::Python => format!("{VENV} && {MOVE_VENV}"),
        Tool::Make | Tool::Auto | Tool::None => "make".to_owned(),
    };
    let shown = match tool {
        Tool::Nla => "nla-deploy.sh".to_owned(),
        Tool::Python => format!("{VENV} ({file})"),
        _ => format!("{command} ({file})"),
    };
    Ok(Some(Recipe {
        command,
        shown,
        output: (tool == Tool::Nla).then(|| PathBuf::from(NLA_TARGET)),
    }))
}

/// In the order in which they count.
const ORDER: &[Tool] = &[
    Tool::Nla,
    Tool::Maven,
    Tool::Gradle,
    Tool::Npm,
    Tool::Cargo,
    Tool::Make,
    Tool::Python,
];

fn found(src: &Path) -> Option<Tool> {
    let there = |tool: &&Tool| {
        let named = files_of(**tool).iter().any(|name| is_file(src, name));
        // Most package.json only say what a folder is.
        named && (**tool != Tool::Npm || Package::read(src).is_built())
    };
    ORDER.iter().find(there).copied()
}

fn files_of(tool: Tool) -> &'static [&'static str] {
    match tool {
        Tool::Nla => &["nla-deploy.sh"],
        Tool::Maven => &["pom.xml"],
        Tool::Gradle => &["build.gradle", "build.gradle.kts"],
        Tool::Npm => &["package.json"],
        Tool::Cargo => &["Cargo.toml"],
        Tool::Python => &["setup.py", "pyproject.toml"],
        Tool::Make | Tool::Auto | Tool::None => &["Makefile", "GNUmakefile", "makefile"],
    }
}

fn is_file(src: &Path, name: &str) -> bool {
    src.join(name)
        .symlink_metadata()
        .is_ok_and(|meta| meta.is_file())
}

/// The wrapper that a repository brings, else the tool of the server.
fn wrapped(src: &Path, wrapper: &str, tool: &str) -> String {
    match is_file(src, wrapper) {
        true => format!("sh ./{wrapper}"),
        false => tool.to_owned(),
    }
}

fn npm(src: &Path, skip_tests: bool) -> String {
    let install = match is_file(src, "package-lock.json") {
        true => "npm ci",
        false => "npm install",
    };
    let mut command = format!("{install} && npm run build --if-present");
    if !skip_tests && Package::read(src).has_test() {
        command.push_str(" && npm test");
    }
    command
}

/// What a package.json says.
struct Package(Value);

impl Package {
    fn read(src: &Path) -> Package {
        let text = std::fs::read(src.join("package.json")).unwrap_or_default();
        let value = match text.len() <= MOST {
            true => serde_json::from_slice(&text).unwrap_or_default(),
            false => Value::Null,
        };
        Package(value)
    }

    /// Whether there is something to fetch or to build.
    fn is_built(&self) -> bool {
        let some = |key: &str| self.0[key].as_object().is_some_and(|all| !all.is_empty());
        some("dependencies") || some("devDependencies") || self.0["scripts"]["build"].is_string()
    }

    fn has_test(&self) -> bool {
        // What `npm init` writes only fails.
        self.0["scripts"]["test"]
            .as_str()
            .is_some_and(|test| !test.contains("no test specified"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn command(files: &[(&str, &str)], skip: bool) -> Option<String> {
        let dir = checkout(files);
        let recipe = recipe(Tool::Auto, dir.path(), skip).unwrap();
        recipe.map(|recipe| recipe.command)
    }

    #[test]
    fn the_file_tells() {
        for (file, with, without) in [
            ("pom.xml", "mvn -B package", "mvn -B -DskipTests package"),
            (
                "build.gradle.kts",
                "gradle --no-daemon --console=plain build",
                "gradle --no-daemon --console=plain build -x test",
            ),
            (
                "Cargo.toml",
                "cargo build --release && cargo test --release",
                "cargo build --release",
            ),
            ("Makefile", "make", "make"),
        ] {
            assert_eq!(
                command(&[(file, "")], false).as_deref(),
                Some(with),
                "{file}"
            );
            assert_eq!(
                command(&[(file, "")], true).as_deref(),
                Some(without),
                "{file}"
            );
        }
        assert!(command(&[("setup.py", "")], false).is_some_and(|text| text.starts_with(VENV)));
        assert_eq!(command(&[("README", "")], false), None);
        let both = [("pom.xml", ""), ("mvnw", ""), ("Makefile", "")];
        assert_eq!(
            command(&both, false).as_deref(),
            Some("sh ./mvnw -B package")
        );
    }

    #[test]
    fn a_package_json_without_anything_to_build_builds_nothing() {
        assert_eq!(
            command(&[("package.json", "{\"type\": \"module\"}")], false),
            None
        );
        assert_eq!(command(&[("package.json", "no json")], false), None);
        let text = "{\"dependencies\": {\"x\": \"1\"}, \"scripts\": {\"test\": \"node t.js\"}}";
        assert_eq!(
            command(&[("package.json", text), ("package-lock.json", "")], false).as_deref(),
            Some("npm ci && npm run build --if-present && npm test")
        );
        assert_eq!(
            command(&[("package.json", text)], true).as_deref(),
            Some("npm install && npm run build --if-present")
        );
    }

    #[test]
    fn a_named_tool_needs_its_file() {
        let dir = checkout(&[("Makefile", "")]);
        assert_eq!(recipe(Tool::None, dir.path(), false).unwrap(), None);
        let error = recipe(Tool::Maven, dir.path(), false).unwrap_err();
        assert!(error.to_string().contains("no pom.xml"), "{error}");
        let dir = checkout(&[("nla-deploy.sh", "")]);
        let found = recipe(Tool::Auto, dir.path(), false).unwrap().unwrap();
        assert_eq!(found.output.as_deref(), Some(Path::new(NLA_TARGET)));
    }
}
