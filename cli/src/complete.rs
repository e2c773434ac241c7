//! What the word under the cursor could become: the part of shell completion that knows something.
//!
//! The scripts in `cli/completions/` hand the command line over and show what comes back. What a word
//! can be follows from the definition of the command line: of an option or argument with fixed values
//! these, of any other what its value is called there (`KEY`, `SITE`, `ENTRY`, `PATH`).

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, Command};
use metactl_bundles::keys::candidates;
use metactl_bundles::layers::Config;
use metactl_bundles::paths::Paths;
use metactl_lifecycle::status::EntryKind;
use metactl_lifecycle::{Instance, Manager};

use crate::args;

/// The words that the last of `words` could become; `words` is the command line without the program.
pub fn candidates(definition: &Command, mut manager: Manager, words: &[String]) -> Vec<String> {
    let (current, before) = match words.split_last() {
        Some((current, before)) => (current.as_str(), before),
        None => ("", [].as_slice()),
    };
    let line = Line::read(definition, before);
    if let Some(root) = &line.root {
        manager.paths = Paths::under(Path::new(root));
    }
    let typing = Typing {
        definition,
        manager: &manager,
        line: &line,
        current,
    };
    let mut found = typing.all();
    found.retain(|word| word.starts_with(current));
    found.sort();
    found.dedup();
    found
}

/// What stands before the cursor.
#[derive(Default)]
struct Line<'a> {
    app: Option<String>,
    root: Option<String>,
    command: Option<&'a Command>,
    /// The arguments of the command that are complete.
    arguments: Vec<String>,
    /// An option whose value comes next.
    pending: Option<&'a Arg>,
    /// Behind `--` nothing is ours to know.
    over: bool,
}

impl<'a> Line<'a> {
    fn read(definition: &'a Command, words: &[String]) -> Line<'a> {
        let mut line = Line::default();
        for word in words {
            line.take(definition, word);
        }
        line
    }

    fn take(&mut self, definition: &'a Command, word: &str) {
        if let Some(option) = self.pending.take() {
            self.value(option, word);
        } else if word == "--" {
            self.over = true;
        } else if word.starts_with('-') {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let known = options(definition, self.command).find(|option| is_called(option, name));
            let Some(option) = known.filter(|option| option.get_action().takes_values()) else {
                return;
            };
            match value {
                Some(value) => self.value(option, value),
                None => self.pending = Some(option),
            }
        } else if self.command.is_none() {
            match definition.find_subcommand(word) {
                Some(command) => self.command = Some(command),
                None => self.app = self.app.take().or_else(|| Some(word.to_owned())),
            }
        } else if self.wants_app() {
            self.app = Some(word.to_owned());
        } else {
            self.arguments.push(word.to_owned());
        }
        let passes_on = |command: &Command| args::Command::PASSING_ON.contains(&command.get_name());
        self.over |= self.command.is_some_and(passes_on) && self.app.is_some();
    }

    fn value(&mut self, option: &Arg, value: &str) {
        match option.get_long() {
            Some("app") => self.app = Some(value.to_owned()),
            Some("root") => self.root = Some(value.to_owned()),
            _ => {}
        }
    }

    /// Whether an instance comes before any argument of the command.
    fn wants_app(&self) -> bool {
        self.app.is_none() && self.command.is_some_and(|command| !is_server_wide(command))
    }
}

fn is_server_wide(command: &Command) -> bool {
    args::Command::SERVER_WIDE.contains(&command.get_name())
}

fn options<'a>(
    definition: &'a Command,
    command: Option<&'a Command>,
) -> impl Iterator<Item = &'a Arg> {
    let own = command.into_iter().flat_map(Command::get_arguments);
    own.chain(definition.get_arguments())
        .filter(|option| !option.is_positional() && !option.is_hide_set())
}

fn is_called(option: &Arg, word: &str) -> bool {
    let long = word.strip_prefix("--");
    let short = word.strip_prefix('-').and_then(|rest| rest.chars().next());
    match long {
        Some(long) => option.get_long() == Some(long),
        None => option.get_short().is_some() && option.get_short() == short,
    }
}

/// The word that is being typed.
struct Typing<'a> {
    definition: &'a Command,
    manager: &'a Manager,
    line: &'a Line<'a>,
    current: &'a str,
}

impl Typing<'_> {
    fn all(&self) -> Vec<String> {
        let line = self.line;
        if line.over {
            return Vec::new();
        }
        if let Some(option) = line.pending {
            return self.values(option, self.current);
        }
        if self.current.starts_with('-') {
            return self.options();
        }
        let Some(command) = line.command else {
            let mut words = self.commands(line.app.is_some());
            if line.app.is_none() {
                words.extend(self.instances());
            }
            return words;
        };
        if line.wants_app() {
            return self.instances();
        }
        let mut arguments = command.get_positionals();
        let count = command.get_positionals().count();
        // The last one may be there many times.
        let index = line.arguments.len().min(count.saturating_sub(1));
        match arguments.nth(index) {
            Some(argument) if line.arguments.len() < count || is_repeated(argument) => {
                self.values(argument, self.current)
            }
            _ => Vec::new(),
        }
    }

    fn options(&self) -> Vec<String> {
        if let Some((name, value)) = self.current.split_once('=') {
            let option =
                options(self.definition, self.line.command).find(|option| is_called(option, name));
            let values = option.map(|option| self.values(option, value));
            return values
                .into_iter()
                .flatten()
                .map(|value| format!("{name}={value}"))
                .collect();
        }
        let longs = options(self.definition, self.line.command).filter_map(Arg::get_long);
        longs.map(|long| format!("--{long}")).collect()
    }

    fn commands(&self, for_app: bool) -> Vec<String> {
        let visible = self.definition.get_subcommands();
        visible
            .filter(|command| !command.is_hide_set())
            .filter(|command| !for_app || !is_server_wide(command))
            .map(|command| command.get_name().to_owned())
            .collect()
    }

    /// The instances; none where they cannot be listed.
    fn instances(&self) -> Vec<String> {
        self.manager.instances().unwrap_or_default()
    }

    /// The configuration of the instance, as far as it can be read: a completion says no errors.
    fn config(&self) -> Option<Config> {
        self.instance()?.config().ok()
    }

    /// What the value of an option or argument can be, by what it is called.
    fn values(&self, argument: &Arg, current: &str) -> Vec<String> {
        let fixed = argument.get_possible_values();
        if !fixed.is_empty() && argument.get_action().takes_values() {
            let shown = fixed.iter().filter(|value| !value.is_hide_set());
            return shown.map(|value| value.get_name().to_owned()).collect();
        }
        let names = argument.get_value_names().unwrap_or_default();
        let kinds: Vec<&str> = names.iter().flat_map(|name| name.split('|')).collect();
        kinds
            .into_iter()
            .flat_map(|kind| self.values_of(kind, current))
            .collect()
    }

    fn values_of(&self, kind: &str, current: &str) -> Vec<String> {
        match kind {
            // A new one is called like none of them.
            "APP" if self.line.command.is_some_and(|one| one.get_name() == "new") => Vec::new(),
            "APP" => self.instances(),
            "REPO" => paths(current, true),
            "SITE" => self.manager.sites(),
            "ENTRY" => self.entries(),
            "RELEASE" => self.releases(),
            "PATH" => paths(current, false),
            "DIR" => paths(current, true),
            "TOPIC" => {
                let topics = super::commands::help::TOPICS.iter();
                let topics = topics.map(|topic| (*topic).to_owned());
                topics.chain(self.commands(false)).collect()
            }
            "KEY" if self.line.app.is_none() => candidates::table(),
            _ if kind.contains("KEY=") => self.assignments(current),
            _ if kind.contains("KEY") => self.selectors(current),
            _ => Vec::new(),
        }
    }

    /// Daemons as configured and as deployed; for what has logs also cron jobs.
    fn entries(&self) -> Vec<String> {
        let sections = candidates::sections(self.config().as_ref());
        let sections = sections
            .iter()
            .filter_map(|section| section.strip_prefix("daemon."));
        let mut names: Vec<String> = sections.map(str::to_owned).collect();
        let all = self
            .line
            .command
            .is_some_and(|command| command.get_name() == "logs");
        let logs = self
            .instance()
            .and_then(|instance| instance.log_files(None).ok());
        let logs = logs.unwrap_or_default().into_iter();
        let logs = logs.filter(|log| all || log.kind == EntryKind::Daemon);
        names.extend(logs.map(|log| log.entry));
        names
    }

    /// The releases that are there, by id and by tag.
    fn releases(&self) -> Vec<String> {
        let all = self
            .instance()
            .and_then(|instance| instance.all_releases().ok());
        let (all, _) = all.unwrap_or_default();
        all.into_iter()
            .flat_map(|release| [release.id, release.tag])
            .collect()
    }

    fn instance(&self) -> Option<Instance> {
        self.manager.instance(self.line.app.as_deref()?).ok()
    }

    /// `SECTION`, `SECTION:KEY`.
    fn selectors(&self, current: &str) -> Vec<String> {
        let config = self.config();
        if let Some((section, _)) = current.split_once(':') {
            let keys = candidates::keys(config.as_ref(), section);
            return keys.iter().map(|key| format!("{section}:{key}")).collect();
        }
        let mut sections = candidates::sections(config.as_ref());
        if sections.iter().any(|section| section == current) {
            sections.push(format!("{current}:"));
        }
        sections
    }

    /// `SECTION:KEY=`, `SECTION:KEY=VALUE`.
    fn assignments(&self, current: &str) -> Vec<String> {
        let config = self.config();
        let Some((section, rest)) = current.split_once(':') else {
            let sections = candidates::sections(config.as_ref());
            return sections
                .iter()
                .map(|section| format!("{section}:"))
                .collect();
        };
        if let Some((key, _)) = rest.split_once('=') {
            let values = candidates::values(section, key).into_iter();
            return values
                .map(|value| format!("{section}:{key}={value}"))
                .collect();
        }
        let keys = candidates::keys(config.as_ref(), section);
        keys.iter().map(|key| format!("{section}:{key}=")).collect()
    }
}

fn is_repeated(argument: &Arg) -> bool {
    argument
        .get_num_args()
        .is_some_and(|range| range.max_values() > 1)
}

/// The files that a half-typed path could be; folders end with a slash.
fn paths(current: &str, folders_only: bool) -> Vec<String> {
    let folder = match current.rfind('/') {
        Some(slash) => &current[..=slash],
        None => "",
    };
    let read = if folder.is_empty() { "." } else { folder };
    let entries = std::fs::read_dir(read).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let is_folder = entry.path().is_dir();
        let hidden = name.starts_with('.') && !current[folder.len()..].starts_with('.');
        if hidden || (folders_only && !is_folder) {
            continue;
        }
        let slash = if is_folder { "/" } else { "" };
        found.push(format!("{folder}{name}{slash}"));
    }
    found
}

/// The arguments as text; what is not text has no completion.
pub fn words(arguments: &[OsString]) -> Vec<String> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    arguments.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn scene() -> (tempfile::TempDir, Manager) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.config.join("nodes")).unwrap();
        fs::create_dir_all(paths.config.join("sites/prod")).unwrap();
        fs::write(
            paths.local_layer("myapp"),
            "[web]\nplatform = jvm\njvm.jar = x\n[env]\nDB_HOST = y\nDB_PORT = 1\n",
        )
        .unwrap();
        let manager = Manager {
            paths,
            runtime: "metactl-runtime".into(),
            metactl: "metactl".into(),
        };
        (root, manager)
    }

    #[track_caller]
    fn gives(line: &str, wanted: &[&str]) {
        let (_root, manager) = scene();
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if line.ends_with(' ') {
            words.push(String::new());
        }
        assert_eq!(
            candidates(&Cli::command(), manager, &words),
            wanted,
            "{line:?}"
        );
    }

    #[test]
    fn instances_commands_and_both_orders() {
        gives("mya", &["myapp"]);
        gives("myapp sho", &["show"]);
        gives("show m", &["myapp"]);
        gives("myapp chec", &[]);
        gives("chec", &["check"]);
        gives("-a myapp sho", &["show"]);
        gives("myapp exec -- l", &[]);
        gives("new mya", &[]);
        gives("new other /us", &["/usr/"]);
    }

    #[test]
    fn sections_and_keys() {
        gives("myapp show env:", &["env:DB_HOST", "env:DB_PORT"]);
        gives("show myapp env:DB_H", &["env:DB_HOST"]);
        gives(
            "myapp show sandbox.",
            &["sandbox.limits", "sandbox.mounts", "sandbox.net"],
        );
        gives("myapp show env", &["env", "env:"]);
        gives("myapp show env:DB_HOST e", &[]);
        gives("myapp why env:DB_P", &["env:DB_PORT"]);
        gives(
            "myapp show daemon.web:jvm.heap.ma",
            &["daemon.web:jvm.heap.max"],
        );
        gives("myapp set env:DB_P", &["env:DB_PORT="]);
        gives("help keys jvm.heap.ma", &["jvm.heap.max"]);
    }

    #[test]
    fn options_and_their_values() {
        gives("myapp show --lay", &["--layer"]);
        gives("myapp show --layer s", &["server", "site"]);
        gives("myapp show --layer=l", &["--layer=local"]);
        gives("check --site ", &["prod"]);
        gives("myapp compare p", &["prod"]);
        gives("myapp restart ", &["web"]);
        gives("help exit", &["exit-codes"]);
    }
}
