//! Capabilities of Linux as privileges of Solaris (privileges(7)). Pure.

use crate::error::{LifecycleError, Result};

/// The sets of privileges of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Privileges {
    /// What its processes have.
    pub(super) effective: String,
    /// What they, and whatever they run, can ever have: there is no way around it by programs that run as root.
    pub(super) limit: String,
}

/// What every process has, but for looking at processes of others, and for links to files of others. Any port may be
/// bound, as in a sandbox on Linux: the address is the instance's own.
const USUAL: &str = "basic,!proc_info,!file_link_any,net_privaddr";
/// `basic` stands for all that an ordinary process has.
const LIMIT: &str = "basic,net_privaddr";

/// What answers to each capability. One that is not here has no answer.
const ANSWERS: [(&str, &[&str]); 16] = [
    ("CAP_CHOWN", &["file_chown"]),
    (
        "CAP_DAC_OVERRIDE",
        &[
            "file_dac_read",
            "file_dac_write",
            "file_dac_execute",
            "file_dac_search",
        ],
    ),
    ("CAP_DAC_READ_SEARCH", &["file_dac_read", "file_dac_search"]),
    ("CAP_FOWNER", &["file_owner"]),
    ("CAP_FSETID", &["file_setid"]),
    ("CAP_IPC_LOCK", &["proc_lock_memory"]),
    (
        "CAP_IPC_OWNER",
        &["ipc_dac_read", "ipc_dac_write", "ipc_owner"],
    ),
    ("CAP_KILL", &["proc_owner"]),
    ("CAP_NET_BIND_SERVICE", &["net_privaddr"]),
    ("CAP_NET_RAW", &["net_icmpaccess", "net_rawaccess"]),
    ("CAP_SETGID", &["proc_setid"]),
    ("CAP_SETUID", &["proc_setid"]),
    ("CAP_SYS_CHROOT", &["proc_chroot"]),
    ("CAP_SYS_NICE", &["proc_priocntl"]),
    ("CAP_SYS_RESOURCE", &["sys_resource"]),
    ("CAP_SYS_TIME", &["sys_time"]),
];

/// The privileges of an entry point that was granted these capabilities.
///
/// # Errors
/// A capability that nothing answers to.
pub(super) fn of(entry: &str, capabilities: &[String]) -> Result<Privileges> {
    let mut more: Vec<&str> = Vec::new();
    for capability in capabilities {
        let answer = ANSWERS.iter().find(|(name, _)| name == capability);
        let (_, names) = answer.ok_or_else(|| LifecycleError::Setting {
            what: format!("{entry} has {capability}, for which Solaris has no privilege"),
            hint: "take it out of `capabilities` in [sandbox] for this server".to_owned(),
        })?;
        for name in *names {
            if *name != "net_privaddr" && !more.contains(name) {
                more.push(name);
            }
        }
    }
    more.sort_unstable();
    let with = |base: &str| {
        let names = std::iter::once(base).chain(more.iter().copied());
        names.collect::<Vec<_>>().join(",")
    };
    Ok(Privileges {
        effective: with(USUAL),
        limit: with(LIMIT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_names(names: &[&str]) -> Result<Privileges> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        of("web", &names)
    }

    #[test]
    fn capabilities_have_answers_or_are_refused() {
        let none = of_names(&[]).unwrap();
        assert_eq!(
            (none.effective.as_str(), none.limit.as_str()),
            (USUAL, LIMIT)
        );
        let some = of_names(&["CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_SETGID"]).unwrap();
        assert_eq!(some.limit, "basic,net_privaddr,proc_setid");
        let error = of_names(&["CAP_BPF"]).unwrap_err().to_string();
        assert!(error.contains("CAP_BPF"), "{error}");
    }
}
