//! What was asked for, as lifecycle judges and records it: the verb and the other words.

use std::ffi::OsString;

use clap::ArgMatches;
use metactl_lifecycle::access::Request;

/// The verb and its words.
#[derive(Debug)]
pub struct Asked {
    verb: String,
    words: Vec<String>,
    app: Option<String>,
    moved: bool,
}

/// Options that every command takes, which say nothing about what it does; those with a value.
const GLOBAL: [&str; 3] = ["--json", "-q", "--quiet"];
const GLOBAL_WITH_VALUE: [&str; 4] = ["-a", "--app", "--root", "--color"];

impl Asked {
    /// Of a command line in canonical order, without the program.
    pub fn of(matches: &ArgMatches, arguments: &[OsString]) -> Asked {
        let app = matches.get_one::<String>("app").cloned();
        let bare = if app.is_some() { "status" } else { "list" };
        let verb = matches.subcommand_name();
        let text = arguments
            .iter()
            .map(|word| word.to_string_lossy().into_owned());
        Asked {
            words: words(text, verb),
            verb: verb.unwrap_or(bare).to_owned(),
            app,
            moved: matches.contains_id("root"),
        }
    }

    /// For lifecycle.
    pub fn request(&self) -> Request<'_> {
        Request {
            verb: &self.verb,
            words: &self.words,
            // `new` has it among its own words.
            instance: self.app.as_deref().or_else(|| match self.verb.as_str() {
                "new" => self.words.first().map(String::as_str),
                _ => None,
            }),
            moved: self.moved,
        }
    }
}

fn words(arguments: impl Iterator<Item = String>, verb: Option<&str>) -> Vec<String> {
    let mut arguments = arguments.peekable();
    let mut kept = Vec::new();
    let mut verb = verb;
    while let Some(word) = arguments.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if word == "--" {
            kept.push(word);
            kept.extend(arguments);
            break;
        } else if GLOBAL.contains(&word.as_str()) || GLOBAL_WITH_VALUE.contains(&name) {
            // An option is never swallowed: it may decide what this is.
            if GLOBAL_WITH_VALUE.contains(&word.as_str()) {
                arguments.next_if(|value| !value.starts_with('-'));
            }
        } else if verb == Some(word.as_str()) || (verb == Some("logs") && word == "log") {
            verb = None;
        } else {
            kept.push(word);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;
    use crate::words::canonical;

    #[track_caller]
    fn is(line: &str, verb: &str, app: Option<&str>, words: &[&str], moved: bool) {
        let definition = Cli::command();
        let line = line.split_whitespace().map(OsString::from).collect();
        let arguments = canonical(&definition, line).unwrap();
        let named = std::iter::once("metactl".into()).chain(arguments.clone());
        let matches = definition.try_get_matches_from(named).unwrap();
        let asked = Asked::of(&matches, &arguments);
        let request = asked.request();
        assert_eq!((request.verb, request.instance), (verb, app));
        assert_eq!(
            (request.words, request.moved),
            (
                &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()[..],
                moved
            )
        );
    }

    #[test]
    fn verbs_and_words() {
        is("", "list", None, &[], false);
        is("myapp", "status", Some("myapp"), &[], false);
        is(
            "log myapp -n 5 --json",
            "logs",
            Some("myapp"),
            &["-n", "5"],
            false,
        );
        is(
            "myapp --root /x stop web",
            "stop",
            Some("myapp"),
            &["web"],
            true,
        );
        is("--root=/x list", "list", None, &[], true);
        is("-a stop stop stop", "stop", Some("stop"), &["stop"], false);
        is(
            "new shop https://x/y.git",
            "new",
            Some("shop"),
            &["shop", "https://x/y.git"],
            false,
        );
        is(
            "myapp show --secrets",
            "show",
            Some("myapp"),
            &["--secrets"],
            false,
        );
        is(
            "myapp net curl --root x",
            "net",
            Some("myapp"),
            &["--", "curl", "--root", "x"],
            false,
        );
    }

    #[test]
    fn every_command_is_in_the_table_of_verbs() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(metactl_lifecycle::access::verbs::is_known(name), "{name}");
        }
    }
}
