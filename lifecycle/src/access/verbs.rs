//! The table of verbs: what kind of thing each does, and whether the trail has it.

use serde::Serialize;

/// What a verb does, from the harmless to what only those may who may everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Explains metactl itself: it tells nothing of the server.
    Explain,
    /// Tells what runs: never configuration.
    Read,
    /// Starts, stops, and shows the configuration without secrets.
    Operate,
    /// Decides which code runs, or runs some as the application.
    Deploy,
    /// Everything else: configuration decides about the server's own files and rights.
    Administer,
}

impl Kind {
    /// `deploy`, as `[access]` has it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Explain => "explain",
            Kind::Read => "read",
            Kind::Operate => "operate",
            Kind::Deploy => "deploy",
            Kind::Administer => "administer",
        }
    }
}

/// What the trail has of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trail {
    /// Nothing, unless it is refused.
    Nothing,
    /// Beginning and end.
    Both,
    /// The beginning: then this process becomes another program.
    Beginning,
}

/// A verb, or a verb with a word that makes it another thing.
struct Row(&'static str, Option<&'static str>, Kind, Trail);

/// Every verb. What is not in here needs every right, and is recorded.
const VERBS: &[Row] = {
    use Kind::{Administer, Deploy, Explain, Operate, Read};
    use Trail::{Beginning, Both, Nothing};
    &[
        Row("help", None, Explain, Nothing),
        Row("version", None, Explain, Nothing),
        Row("completion", None, Explain, Nothing),
        Row("manual", None, Explain, Nothing),
        Row("list", None, Read, Nothing),
        Row("status", None, Read, Nothing),
        Row("logs", None, Read, Nothing),
        Row("events", None, Read, Nothing),
        Row("history", None, Read, Nothing),
        Row("releases", None, Read, Nothing),
        Row("ps", None, Read, Nothing),
        Row("pid", None, Read, Nothing),
        Row("top", None, Read, Nothing),
        Row("doctor", None, Read, Nothing),
        Row("complete", None, Read, Nothing),
        Row("cron", None, Read, Nothing),
        Row("health", None, Read, Nothing),
        Row("show", None, Operate, Nothing),
        Row("show", Some("--secrets"), Administer, Both),
        Row("dump", None, Operate, Nothing),
        Row("dump", Some("--secrets"), Administer, Both),
        Row("get", None, Operate, Nothing),
        Row("get", Some("--secrets"), Administer, Both),
        Row("why", None, Operate, Nothing),
        Row("compare", None, Operate, Nothing),
        Row("changed", None, Operate, Nothing),
        Row("plan", None, Operate, Nothing),
        Row("firewall", None, Operate, Nothing),
        // For a while everything may leave.
        Row("firewall", Some("learn"), Administer, Both),
        Row("start", None, Operate, Both),
        Row("stop", None, Operate, Both),
        Row("restart", None, Operate, Both),
        Row("reload", None, Operate, Both),
        Row("enable", None, Operate, Both),
        Row("disable", None, Operate, Both),
        // Asked for by timers, all the time.
        Row("mend", None, Operate, Nothing),
        Row("cron", Some("run"), Operate, Both),
        Row("stack", None, Operate, Nothing),
        Row("gcutil", None, Operate, Nothing),
        Row("lsof", None, Operate, Nothing),
        Row("deploy", None, Deploy, Both),
        Row("rollback", None, Deploy, Both),
        Row("prune", None, Deploy, Both),
        // Who is in the sandbox, its network or its memory knows what the application knows.
        Row("exec", None, Deploy, Beginning),
        Row("shell", None, Deploy, Beginning),
        Row("net", None, Deploy, Beginning),
        Row("tcpdump", None, Deploy, Beginning),
        Row("strace", None, Deploy, Beginning),
        Row("heapdump", None, Deploy, Both),
        Row("bundle", None, Deploy, Both),
        // Writes where it is told to.
        Row("bundle", Some("--redacted"), Administer, Both),
        // These show lines of any file that they are given.
        Row("check", None, Administer, Nothing),
        Row("run", None, Administer, Nothing),
        Row("import", None, Administer, Both),
        Row("set", None, Administer, Both),
        Row("unset", None, Administer, Both),
        Row("allow", None, Administer, Both),
        Row("config", None, Administer, Both),
        Row("revert", None, Administer, Both),
        Row("new", None, Administer, Both),
        Row("delete", None, Administer, Both),
        Row("supervise", None, Administer, Nothing),
        // Asked for by units, all the time.
        Row("unit", None, Administer, Nothing),
    ]
};

fn rows<'a>(verb: &'a str, words: &'a [String]) -> impl Iterator<Item = &'static Row> + use<'a> {
    let own = || words.iter().take_while(|word| *word != "--");
    VERBS.iter().filter(move |row| {
        let with = row.1.is_none_or(|with| {
            own().any(|word| word.split_once('=').map_or(word.as_str(), |(word, _)| word) == with)
        });
        row.0 == verb && with
    })
}

/// What a verb does with these arguments.
pub fn kind(verb: &str, words: &[String]) -> Kind {
    let kinds = rows(verb, words).map(|row| row.2);
    kinds.max().unwrap_or(Kind::Administer)
}

/// Whether the table has a verb.
pub fn is_known(verb: &str) -> bool {
    VERBS.iter().any(|row| row.0 == verb)
}

/// Whether the trail has it: its beginning, and its end.
pub(super) fn is_recorded(verb: &str, words: &[String]) -> (bool, bool) {
    let trails = || rows(verb, words).map(|row| row.3);
    let known = is_known(verb);
    let begins = !known || trails().any(|trail| trail != Trail::Nothing);
    (
        begins,
        begins && !trails().any(|trail| trail == Trail::Beginning),
    )
}

/// Whether a verb ends by becoming another program.
pub(super) fn hands_over(verb: &str) -> bool {
    VERBS
        .iter()
        .any(|row| row.0 == verb && row.3 == Trail::Beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Kind {
        let mut words = line.split(' ').map(str::to_owned);
        let verb = words.next().unwrap();
        kind(&verb, &words.collect::<Vec<_>>())
    }

    #[test]
    fn a_word_can_make_it_more() {
        assert_eq!(of("show env"), Kind::Operate);
        assert_eq!(of("show env --secrets"), Kind::Administer);
        assert_eq!(of("bundle --redacted=/etc"), Kind::Administer);
        assert_eq!(of("firewall learn"), Kind::Administer);
        assert_eq!(of("firewall --watch"), Kind::Operate);
        // Arguments of another program are its own.
        assert_eq!(of("lsof web -- --secrets"), Kind::Operate);
        assert_eq!(of("something-new"), Kind::Administer);
        assert!(Kind::Read < Kind::Operate && Kind::Deploy < Kind::Administer);
    }

    #[test]
    fn what_changes_something_is_recorded() {
        let none: [String; 0] = [];
        for row in VERBS.iter().filter(|row| row.1.is_none()) {
            let looks = row.2 <= Kind::Read;
            assert!(!(looks && is_recorded(row.0, &none).0), "{}", row.0);
        }
        assert_eq!(is_recorded("stop", &none), (true, true));
        assert_eq!(is_recorded("exec", &none), (true, false));
        assert_eq!(is_recorded("unheard-of", &none), (true, true));
    }
}
