//! `metactl APP COMMAND` and `metactl COMMAND APP` are the same: both are brought into the form
//! `metactl -a APP COMMAND ...`, which is the one that [`crate::args`] defines.
//!
//! The first word that is a command wins; that is why an instance may not be named like one.

use std::ffi::OsString;

use clap::{Arg, Command};
use metactl_bundles::keys::suggest::nearest;

use crate::args;
use crate::failure::Failure;

/// Brings the arguments (without the program's name) into the canonical order.
///
/// # Errors
///
/// When the first two words are no instance and command, in whatever order.
pub fn canonical(definition: &Command, argv: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let mut argv = passing_on(definition, argv);
    let Some(first) = next_word(definition, None, &argv, 0) else {
        return Ok(argv);
    };
    if names_app(definition, &argv) {
        return Ok(argv);
    }
    let word = text(&argv[first]);
    if let Some(command) = definition.find_subcommand(&word) {
        if is_server_wide(command) {
            return Ok(argv);
        }
        if let Some(app) = next_word(definition, Some(command), &argv, first + 1) {
            let app = argv.remove(app);
            argv.splice(0..0, ["-a".into(), app]);
        }
        return Ok(argv);
    }
    if let Some(second) = next_word(definition, None, &argv, first + 1) {
        check_command(definition, &word, &text(&argv[second]))?;
    }
    let app = argv.remove(first);
    argv.splice(0..0, ["-a".into(), app]);
    Ok(argv)
}

/// `myapp tcpdump -n port 80` is `myapp tcpdump -- -n port 80`: what belongs to another program is none of
/// ours, whatever it looks like.
fn passing_on(definition: &Command, mut argv: Vec<OsString>) -> Vec<OsString> {
    let is_one = |word: &OsString| args::Command::PASSING_ON.contains(&text(word).as_str());
    let Some(first) = next_word(definition, None, &argv, 0) else {
        return argv;
    };
    let named = names_app(definition, &argv[..first]);
    let at = if is_one(&argv[first]) {
        match argv.get(first + 1).map(text) {
            // `-a myapp tcpdump ...`, `tcpdump -a myapp ...`, `tcpdump myapp ...`
            _ if named => first + 1,
            Some(word) if word == "-a" || word == "--app" => first + 3,
            _ => first + 2,
        }
    } else if definition.find_subcommand(text(&argv[first])).is_some() {
        return argv;
    } else {
        match next_word(definition, None, &argv, first + 1) {
            Some(second) if is_one(&argv[second]) && !named => second + 1,
            _ => return argv,
        }
    };
    let before = argv.get(at.saturating_sub(1)).map(text);
    let asks = [before, argv.get(at).map(text)];
    let asks = asks
        .iter()
        .flatten()
        .any(|word| word == "--help" || word == "--");
    if at <= argv.len() && !asks {
        argv.insert(at, "--".into());
    }
    argv
}

/// Whether a command takes this word.
fn takes(command: &Command, word: &str) -> bool {
    command.get_positionals().next().is_some_and(|argument| {
        let choices = argument.get_possible_values();
        choices.is_empty() || choices.iter().any(|choice| choice.matches(word, false))
    })
}

/// Whether a command takes no instance.
fn is_server_wide(command: &Command) -> bool {
    args::Command::SERVER_WIDE.contains(&command.get_name())
}

/// `second` must be a command that takes an instance, since `first` is none.
fn check_command(definition: &Command, first: &str, second: &str) -> Result<(), Failure> {
    match definition.find_subcommand(second) {
        Some(command) if is_server_wide(command) => {
            let message = format!("{second} comes first, before any instance");
            let line = match takes(command, first) {
                true => format!("metactl {second} {first}"),
                false => format!("metactl {second}"),
            };
            Err(Failure::usage(message).hint(line))
        }
        Some(_) => Ok(()),
        None => Err(unknown(definition, first, second)),
    }
}

/// Neither word is a command: which of them was meant to be one?
fn unknown(definition: &Command, first: &str, second: &str) -> Failure {
    let failure = Failure::usage(format!("no command among {first:?} and {second:?}"));
    let meant = |word| nearest_command(definition, word);
    let failure = match (meant(second), meant(first)) {
        (Some(command), _) => failure.hint(format!("did you mean: metactl {first} {command}")),
        (None, Some(command)) => failure.hint(format!("did you mean: metactl {command} {second}")),
        (None, None) => failure,
    };
    failure.hint("all commands: metactl help")
}

/// The command that a mistyped word was probably meant to be.
pub fn nearest_command(definition: &Command, word: &str) -> Option<String> {
    let visible = definition
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    nearest(word, visible.map(Command::get_name)).map(str::to_owned)
}

/// The index of the next argument that is neither an option nor an option's value.
fn next_word(
    definition: &Command,
    command: Option<&Command>,
    argv: &[OsString],
    start: usize,
) -> Option<usize> {
    let mut index = start;
    while let Some(argument) = argv.get(index) {
        let argument = text(argument);
        if argument == "--" {
            return None;
        }
        if !argument.starts_with('-') || argument == "-" {
            return Some(index);
        }
        index += if wants_value(definition, command, &argument) {
            2
        } else {
            1
        };
    }
    None
}

/// Whether `-a` or `--app` stands before any `--`.
fn names_app(definition: &Command, argv: &[OsString]) -> bool {
    let mut command = None;
    let mut index = 0;
    while let Some(argument) = argv.get(index).map(text) {
        if argument == "--" {
            return false;
        }
        let is_option = argument.starts_with('-') && argument != "-";
        let is_app = argument == "--app" || argument.starts_with("--app=");
        let is_short = is_option && !argument.starts_with("--") && argument.starts_with("-a");
        if is_app || is_short {
            return true;
        }
        if !is_option && command.is_none() {
            command = definition.find_subcommand(&argument);
        }
        let skip = is_option && wants_value(definition, command, &argument);
        index += if skip { 2 } else { 1 };
    }
    false
}

/// Whether an option takes the argument behind it as its value.
fn wants_value(definition: &Command, command: Option<&Command>, option: &str) -> bool {
    let known = || {
        definition
            .get_arguments()
            .chain(command.into_iter().flat_map(Command::get_arguments))
    };
    let takes_value = |arg: &Arg| arg.get_action().takes_values();
    if let Some(long) = option.strip_prefix("--") {
        return known().any(|arg| arg.get_long() == Some(long) && takes_value(arg));
    }
    // A cluster like `-fn`: the first letter that takes a value takes the rest, if there is any.
    let letters: Vec<char> = option.chars().skip(1).collect();
    let value_at = letters
        .iter()
        .position(|letter| known().any(|arg| arg.get_short() == Some(*letter) && takes_value(arg)));
    value_at.is_some_and(|position| position + 1 == letters.len())
}

fn text(argument: &OsString) -> String {
    argument.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn words(line: &str) -> Result<String, Failure> {
        let argv = line.split_whitespace().map(OsString::from).collect();
        let argv = canonical(&Cli::command(), argv)?;
        Ok(argv.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[track_caller]
    fn same(line: &str, wanted: &str) {
        assert_eq!(words(line).unwrap(), wanted, "{line}");
    }

    #[track_caller]
    fn fails(line: &str, wanted: &[&str]) {
        let Err(Failure::Said(said)) = words(line) else {
            panic!("{line} was understood")
        };
        let all = format!("{}\n{}", said.message, said.hints.join("\n"));
        assert_eq!(said.code, crate::exit::USAGE);
        for part in wanted {
            assert!(all.contains(part), "{line}: no {part:?} in {all}");
        }
    }

    #[test]
    fn what_is_about_the_server_comes_first() {
        let hint = |line: &str| match words(line) {
            Err(Failure::Said(said)) => said.hints.join("\n"),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(hint("myapp run"), "metactl run myapp");
        // A word that it would not take is not proposed.
        assert_eq!(hint("myapp doctor"), "metactl doctor");
        assert_eq!(hint("myapp list"), "metactl list");
        assert_eq!(hint("network doctor"), "metactl doctor network");
    }

    #[test]
    fn both_orders_are_the_same() {
        for line in [
            "myapp logs -n 5 -f web",
            "logs -n 5 myapp -f web",
            "logs myapp -n 5 -f web",
        ] {
            same(line, "-a myapp logs -n 5 -f web");
        }
        same("--json myapp start", "-a myapp --json start");
        same("start myapp web", "-a myapp start web");
        same(
            "start -q --color always myapp web",
            "-a myapp start -q --color always web",
        );
        same("logs -fn 5 myapp", "-a myapp logs -fn 5");
        same("logs -n5 myapp", "-a myapp logs -n5");
        same("show --origin myapp env", "-a myapp show --origin env");
        same("myapp log", "-a myapp log");
    }

    #[test]
    fn an_instance_alone_is_asked_for_its_status() {
        same("myapp", "-a myapp");
        same("--root /r myapp --json", "-a myapp --root /r --json");
        same("", "");
        same("--help", "--help");
    }

    #[test]
    fn the_explicit_form_stays_as_it_is() {
        same("-a start start web", "-a start start web");
        same("start -a myapp web", "start -a myapp web");
        same("logs -n 5 --app=x", "logs -n 5 --app=x");
        same("-amyapp status", "-amyapp status");
    }

    #[test]
    fn what_stands_behind_two_dashes_is_nobodys_business() {
        same("myapp exec -- ls -a /", "-a myapp exec -- ls -a /");
        same("exec myapp web -- start x", "-a myapp exec web -- start x");
        same("exec -- ls", "exec -- ls");
    }

    #[test]
    fn words_of_other_programs_are_left_alone() {
        same(
            "myapp tcpdump -A -c 1 port 80",
            "-a myapp tcpdump -- -A -c 1 port 80",
        );
        same("tcpdump myapp -a -q", "-a myapp tcpdump -- -a -q");
        same("-a myapp tcpdump --json", "-a myapp tcpdump -- --json");
        same("tcpdump -a myapp -n", "tcpdump -a myapp -- -n");
        same("myapp tcpdump", "-a myapp tcpdump --");
        same(
            "--root /r myapp net ip -j addr",
            "-a myapp --root /r net -- ip -j addr",
        );
        same("myapp net -- ls", "-a myapp net -- ls");
        same("tcpdump --help", "tcpdump --help");
        same("help tcpdump", "help tcpdump");
        same("net", "net");
    }

    #[test]
    fn server_wide_verbs_come_first() {
        same("run examples/hello web", "run examples/hello web");
        same("help start", "help start");
        fails("myapp run", &["metactl run myapp"]);
    }

    #[test]
    fn mistyped_commands_are_found() {
        fails("myapp strat", &["did you mean: metactl myapp start"]);
        fails("statsu myapp", &["did you mean: metactl status myapp"]);
        fails("myapp frobnicate", &["metactl help"]);
    }
}
