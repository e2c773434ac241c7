//! Every exit code of `metactl`, in one table.
//!
//! The numbers from 64 on are those of `sysexits.h`; those of `status` are the ones that the Linux
//! Standard Base gives to an init script's `status`.

/// One line of the table.
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
/// Something was found that somebody has to correct.
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
        meaning: "something was found that somebody has to correct",
    },
    Row {
        code: STOPPED,
        name: "stopped",
        meaning: "status only: the instance does not run",
    },
    Row {
        code: UNKNOWN,
        name: "unknown",
        meaning: "status only: it runs in part or nobody can tell",
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
        meaning: "it needs a privilege, usually root",
    },
    Row {
        code: 78,
        name: "configuration",
        meaning: "the configuration is wrong; nothing was changed",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
