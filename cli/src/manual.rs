//! The manual pages: metactl(1) from the definition of the command line, metactl-keys(5) from the table
//! of keys, metactl.conf(5) from `docs/man/`. In the macros of man(7).

use clap::Command;
use metactl_bundles::keys::SECTIONS;
use metactl_bundles::keys::reference::{self, Entry};

use crate::exit;

/// What metactl.conf(5) says.
const CONF: &str = include_str!("../../docs/man/metactl.conf.5");

/// A page by its file's name.
pub fn page(definition: &Command, name: &str) -> String {
    match name {
        "metactl.1" => commands(definition),
        "metactl-keys.5" => keys(),
        _ => CONF.to_owned(),
    }
}

/// A page in the making.
struct Page(String);

impl Page {
    fn new(name: &str, section: u8, what: &str) -> Page {
        let version = env!("CARGO_PKG_VERSION");
        let mut page = Page(String::new());
        let title = name.to_uppercase().replace('-', r"\-");
        page.0.push_str(&format!(
            ".TH {title} {section} \"\" \"metactl {version}\" \"metactl\"\n"
        ));
        page.section("NAME");
        page.0
            .push_str(&format!("{} \\- {}\n", escaped(name), escaped(what)));
        page
    }

    fn section(&mut self, title: &str) {
        self.0.push_str(&format!(".SH {title}\n"));
    }

    fn subsection(&mut self, title: &str) {
        self.0.push_str(&format!(".SS {}\n", quoted(title)));
    }

    /// A paragraph of running text.
    fn paragraph(&mut self, text: &str) {
        self.0.push_str(".PP\n");
        self.text(text);
    }

    fn text(&mut self, text: &str) {
        for line in text.lines() {
            self.0.push_str(&format!("{}\n", styled(line)));
        }
    }

    /// A word and what it means.
    fn item(&mut self, word: &str, text: &str) {
        self.0.push_str(&format!(".TP\n.B {}\n", quoted(word)));
        self.text(text);
    }

    /// Lines as they are.
    fn lines(&mut self, text: &str) {
        self.0.push_str(".PP\n.nf\n");
        for line in text.lines() {
            self.0.push_str(&format!("{}\n", escaped(line)));
        }
        self.0.push_str(".fi\n");
    }
}

/// Text in which nothing is a request or an escape of roff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', r"\e").replace('-', r"\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

/// As [`escaped`], with what stands between backticks in bold.
fn styled(text: &str) -> String {
    let mut out = String::new();
    for (number, part) in escaped(text).split('`').enumerate() {
        if number > 0 {
            out.push_str(if number % 2 == 1 { r"\fB" } else { r"\fR" });
        }
        out.push_str(part);
    }
    out
}

/// The one argument of a macro.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text).replace('"', r"\(dq"))
}

/// metactl(1).
fn commands(definition: &Command) -> String {
    let mut page = Page::new(
        "metactl",
        1,
        "manage the life of applications, each in a sandbox",
    );
    page.section("SYNOPSIS");
    page.0.push_str(".nf\n");
    for usage in [
        "metactl [APP] [COMMAND] [ARGUMENTS]",
        "metactl COMMAND [APP] [ARGUMENTS]",
    ] {
        page.0.push_str(&format!("{usage}\n"));
    }
    page.0.push_str(".fi\n");
    page.section("DESCRIPTION");
    page.text(
        "An instance is an application on this server; both word orders are the same for all commands about one.\n\
         `metactl` alone lists the instances, `metactl APP` says what runs of one.\n\
         A script writes `metactl -a APP COMMAND`, which no name of an instance can confuse.",
    );
    page.section("OPTIONS");
    for option in definition.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let help = option.get_help().map(ToString::to_string);
        page.item(&option_text(option), &help.unwrap_or_default());
    }
    page.section("COMMANDS");
    for command in definition.get_subcommands().filter(|c| !c.is_hide_set()) {
        one_command(&mut page, command);
    }
    page.section("EXIT STATUS");
    for row in exit::TABLE {
        page.item(&format!("{} {}", row.code, row.name), row.meaning);
    }
    page.paragraph(exit::OTHERS);
    page.section("SEE ALSO");
    page.0
        .push_str(".BR metactl.conf (5),\n.BR metactl\\-keys (5)\n");
    page.0
}

fn one_command(page: &mut Page, command: &Command) {
    page.subsection(command.get_name());
    if let Some(about) = command.get_about() {
        page.text(&about.to_string());
    }
    let usage = command.clone().render_usage().to_string();
    let lines = usage.trim_start_matches("Usage: ").lines().map(str::trim);
    page.lines(&lines.collect::<Vec<_>>().join("\n"));
    let own = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !arg.is_global_set() && arg.get_id() != "help");
    for argument in own {
        let help = argument.get_help().map(ToString::to_string);
        page.item(&option_text(argument), &help.unwrap_or_default());
    }
    if let Some(after) = command.get_after_help() {
        page.lines(&after.to_string());
    }
}

/// `-n, --lines LINES`, or the name of an argument.
fn option_text(argument: &clap::Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let value = names
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    if argument.is_positional() {
        return value;
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    let mut text = flags.join(", ");
    if argument.get_action().takes_values() && !value.is_empty() {
        text.push_str(&format!(" {value}"));
    }
    text
}

/// metactl-keys(5).
fn keys() -> String {
    let mut page = Page::new("metactl-keys", 5, "every key of metactl's configuration");
    page.section("DESCRIPTION");
    page.text(
        "How the files are written and merged is in metactl.conf(5). `who` is who may say a key; \"site or local\" includes\n\
         metactl.conf. Without a default nothing is set.",
    );
    let all = reference::with(None);
    for section in SECTIONS {
        let name = section.name.replace(".*", ".NAME");
        page.section(&quoted(&format!("[{name}]")));
        page.text(section.doc);
        for entry in all.iter().filter(|entry| entry.section == name) {
            one_key(&mut page, entry);
        }
    }
    page.section("SEE ALSO");
    page.0.push_str(".BR metactl (1),\n.BR metactl.conf (5)\n");
    page.0
}

fn one_key(page: &mut Page, entry: &Entry) {
    page.item(&entry.key, entry.meaning);
    for (word, text) in entry.facts() {
        page.0.push_str(".br\n");
        page.0
            .push_str(&format!("\\fI{word}\\fR: {}\n", styled(&text)));
    }
    let line = entry.example.lines().nth(1).unwrap_or_default();
    page.0
        .push_str(&format!(".br\n\\fIexample\\fR: {}\n", escaped(line)));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn page_of(name: &str) -> String {
        let mut definition = Cli::command();
        definition.build();
        page(&definition, name)
    }

    #[test]
    fn every_command_and_every_key_is_there() {
        let text = page_of("metactl.1");
        let definition = Cli::command();
        for command in definition.get_subcommands() {
            let heading = format!(".SS \"{}\"\n", command.get_name());
            assert_eq!(text.contains(&heading), !command.is_hide_set(), "{heading}");
        }
        assert!(text.contains("78 configuration"));
        let keys = page_of("metactl-keys.5");
        for entry in reference::with(None) {
            assert!(keys.contains(&quoted(&entry.key)), "{}", entry.key);
        }
    }

    #[test]
    fn nothing_is_a_request_by_accident() {
        assert_eq!(escaped(".metactl is \\ a-b"), r"\&.metactl is \e a\-b");
        assert_eq!(styled("the `-Xmx` x"), r"the \fB\-Xmx\fR x");
    }
}
