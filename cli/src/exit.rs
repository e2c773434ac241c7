//! Every exit code of `metactl`, in one table.
//!
//! The numbers from 64 on are those of `sysexits.h`; those of `status` are the ones that the Linux
//! Standard Base gives to an init script's `status`.

/// One line of the table.
#[derive(Debug, serde::Serialize)]
pub struct Row {
    /// The exit code.
    pub code: u8,
    /// One word for it.
    pub name: &'static str,
    /// When it is given.
    pub meaning: &'static str,
}

/// It was done.
pub const OK: u8 = 0;
/// It was tried and failed.
pub const FAILED: u8 = 1;
/// There is something to correct, or the answer is no.
pub const FINDINGS: u8 = 2;
/// The command line was not understood.
pub const USAGE: u8 = 64;
/// `status`: the instance is stopped (LSB: "program is not running").
pub const STOPPED: u8 = 3;
/// `status`: nobody can tell (LSB: "program or service status is unknown").
pub const UNKNOWN: u8 = 4;

/// The table, as `metactl help exit-codes` prints it.
pub const TABLE: &[Row] = &[
    Row {
        code: OK,
        name: "done",
        meaning: "it was done; for status: everything runs",
    },
    Row {
        code: FAILED,
        name: "failed",
        meaning: "it was tried and failed",
    },
    Row {
        code: FINDINGS,
        name: "findings",
        meaning: "check: valid, but something should be corrected; why: no, or not all of it; changed: what runs is not what is configured; reload: it needs a restart; import: some were refused; doctor: something would stop instances",
    },
    Row {
        code: STOPPED,
        name: "stopped",
        meaning: "status only: the instance does not run",
    },
    Row {
        code: UNKNOWN,
        name: "unknown",
        meaning: "status only: it runs in part or nobody can tell; with --wait also: it is not healthy in time",
    },
    Row {
        code: 10,
        name: "rolled back",
        meaning: "a deployment failed; what ran before runs again",
    },
    Row {
        code: USAGE,
        name: "usage",
        meaning: "the command line was not understood",
    },
    Row {
        code: 69,
        name: "unavailable",
        meaning: "something needed is not there: an instance, a tool",
    },
    Row {
        code: 77,
        name: "not permitted",
        meaning: "it needs a privilege: root, membership of the group metactl to look, or a word in [access]",
    },
    Row {
        code: 78,
        name: "configuration",
        meaning: "the configuration is wrong; nothing was changed",
    },
];

/// Said below the table.
pub const OTHERS: &str =
    "run, exec, shell, net and tcpdump end with the code of what they ran; 128 + N after signal N.";

#[cfg(test)]
mod tests {
    use super::*;

    /// `METACTL_UPDATE_DOCS=1 cargo test -p metactl exit` writes the page again.
    #[test]
    fn the_page_of_the_manual_has_the_table() {
        let mut page = "# Exit codes\n\n\
            <!-- Generated from cli/src/exit.rs: METACTL_UPDATE_DOCS=1 cargo test -p metactl exit -->\n\n\
            The numbers from 64 on are those of `sysexits.h`; those of `status` are the ones that the Linux Standard Base gives to\n\
            an init script's `status`. `metactl help exit-codes` prints this table.\n\n\
            | code | name | when |\n| --- | --- | --- |\n"
            .to_owned();
        for row in TABLE {
            page.push_str(&format!(
                "| {} | {} | {} |\n",
                row.code, row.name, row.meaning
            ));
        }
        page.push_str(&format!("\n{OTHERS}\n"));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/exit-codes.md");
        if std::env::var_os("METACTL_UPDATE_DOCS").is_some() {
            std::fs::write(path, page).unwrap();
            return;
        }
        let current = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            current == page,
            "docs/exit-codes.md is stale: METACTL_UPDATE_DOCS=1 cargo test -p metactl exit"
        );
    }

    /// A code that stands in the source only would be documented nowhere.
    #[test]
    fn every_class_of_failure_is_in_the_table() {
        use metactl_lifecycle::Class;
        for class in [
            Class::Failed,
            Class::RolledBack,
            Class::Usage,
            Class::Unavailable,
            Class::NotPermitted,
            Class::Configuration,
        ] {
            assert!(
                TABLE.iter().any(|row| row.code == class.code()),
                "{class:?}"
            );
        }
    }

    #[test]
    fn every_code_stands_once_and_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
