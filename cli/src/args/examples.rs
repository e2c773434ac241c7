//! Examples for the help of every command that has none beside its definition.

use clap::{Command, CommandFactory};

use super::Cli;

/// A command, and how it is typed.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("list", &["metactl", "metactl list --json"]),
    (
        "status",
        &[
            "metactl myapp",
            "metactl myapp status --json",
            "metactl myapp status --wait=30s && echo it is up",
        ],
    ),
    ("dump", &["metactl myapp dump --origin"]),
    (
        "check",
        &["metactl check", "metactl check ~/myapp --site prod"],
    ),
    ("compare", &["metactl myapp compare prod test"]),
    ("unset", &["metactl myapp unset env:DB_HOST"]),
    (
        "config",
        &["metactl myapp config", "EDITOR=nano metactl myapp config"],
    ),
    ("changed", &["metactl myapp changed && echo nothing to do"]),
    (
        "revert",
        &["metactl myapp revert", "metactl myapp revert --last --yes"],
    ),
    (
        "delete",
        &["metactl myapp delete", "metactl myapp delete --data --yes"],
    ),
    ("plan", &["metactl myapp plan"]),
    (
        "bundle",
        &[
            "metactl myapp bundle",
            "metactl myapp bundle --redacted /tmp/audit",
        ],
    ),
    (
        "deploy",
        &["metactl myapp deploy", "metactl myapp deploy 1.2.4"],
    ),
    ("releases", &["metactl myapp releases"]),
    ("start", &["metactl myapp start", "metactl start myapp web"]),
    ("stop", &["metactl myapp stop", "metactl myapp stop web"]),
    (
        "restart",
        &["metactl myapp restart", "metactl myapp restart web"],
    ),
    ("shell", &["metactl myapp shell"]),
    (
        "exec",
        &[
            "metactl myapp exec -- ls -l /data",
            "metactl myapp exec web -- env",
        ],
    ),
    ("ps", &["metactl myapp ps", "metactl myapp ps web --json"]),
    ("pid", &["kill -USR1 $(metactl myapp pid web)"]),
    ("stack", &["metactl myapp stack web"]),
    ("gcutil", &["metactl myapp gcutil -i 500 -n 10"]),
    ("heapdump", &["metactl myapp heapdump web"]),
    (
        "run",
        &["metactl run examples/hello", "metactl run myapp web"],
    ),
    (
        "doctor",
        &["metactl doctor", "metactl doctor network --json"],
    ),
    (
        "import",
        &["metactl import systemd /etc/systemd/system/myapp.service --dry-run"],
    ),
    ("help", &["metactl help deploy", "metactl help keys heap"]),
    ("version", &["metactl version --json"]),
    (
        "completion",
        &["metactl completion bash > /etc/bash_completion.d/metactl"],
    ),
    ("enable", &["metactl myapp enable"]),
    ("disable", &["metactl myapp disable"]),
    (
        "cron",
        &["metactl myapp cron", "metactl myapp cron run housekeeping"],
    ),
    ("supervise", &["metactl supervise --all"]),
];

/// The command line as [`Cli`] has it, with an example for every command.
pub fn definition() -> Command {
    let mut definition = Cli::command();
    for (name, lines) in EXAMPLES {
        let Some(command) = definition.find_subcommand_mut(name) else {
            continue;
        };
        let said = command.get_after_help().map(ToString::to_string);
        let said = said.unwrap_or_default();
        if said.contains("Example") {
            continue;
        }
        let head = match lines.len() {
            1 => "Example:  ",
            _ => "Examples: ",
        };
        let examples = lines.join("\n          ");
        let line = if said.is_empty() { "" } else { "\n" };
        let text = format!("{said}{line}{head}{examples}");
        *command = std::mem::take(command).after_help(text);
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example_that_is_understood() {
        for command in definition()
            .get_subcommands()
            .filter(|one| !one.is_hide_set())
        {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{}: {help}", command.get_name());
        }
        let known = |name: &str| definition().find_subcommand(name).is_some();
        for (_, lines) in EXAMPLES.iter().filter(|(name, _)| known(name)) {
            for line in lines.iter().filter(|line| line.starts_with("metactl")) {
                let words = line
                    .split([' '])
                    .take_while(|word| !["&&", ">"].contains(word));
                let words = words.skip(1).map(Into::into).collect();
                let words = crate::words::canonical(&definition(), words).unwrap();
                let named = std::iter::once("metactl".into()).chain(words.clone());
                let known = words.iter().any(|word| {
                    word.to_str()
                        .is_some_and(|word| definition().find_subcommand(word).is_some())
                });
                if known {
                    let result = definition().try_get_matches_from(named);
                    assert!(result.is_ok(), "{line}: {}", result.unwrap_err());
                }
            }
        }
    }
}
