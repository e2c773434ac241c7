//! `SCMP_ACT_NOTIFY` and its agent.

use super::*;

fn notify(rest: &str) -> String {
    format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW"{rest},
            "syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY",
                "args":[{{"index":1,"value":511,"op":"SCMP_CMP_EQ"}}]}}]}}"#
    )
}

#[test]
fn a_notified_call_needs_an_agent_that_can_be_found() {
    let filter = compile(
        &section(&notify(
            r#","listenerPath":"/run/agent","listenerMetadata":"x","flags":[]"#,
        )),
        &X86_64,
    )
    .unwrap();
    assert_eq!(filter.flags, 8);
    let listener = Listener {
        path: "/run/agent".into(),
        metadata: Some("x".into()),
    };
    assert_eq!(filter.listener, Some(listener));
    let mkdir = |mode| run(&filter.instructions, NATIVE, 83, [0, mode, 0, 0, 0, 0]);
    assert_eq!(mkdir(511), 0x7fc0_0000);
    assert_eq!(mkdir(510), ret::ALLOW);

    let needs = |what, needed| SeccompError::Needs { what, needed };
    let no_path = needs("syscalls: SCMP_ACT_NOTIFY", "listenerPath");
    assert_eq!(error(&notify("")), no_path);
    assert_eq!(error(&notify(r#","listenerPath":"""#)), no_path);
    for relative in ["run/agent", "@agent", "./x"] {
        assert_eq!(
            error(&notify(&format!(r#","listenerPath":"{relative}""#))),
            SeccompError::ListenerPath(relative.into())
        );
    }
    assert_eq!(
        error(&notify(r#","listenerMetadata":"x""#)),
        needs("listenerMetadata", "listenerPath")
    );
}

#[test]
fn without_a_notified_call_the_agent_is_ignored() {
    for path in ["/run/agent", "agent", ""] {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"{path}"}}"#);
        let filter = compile(&section(&json), &X86_64).unwrap();
        assert_eq!((filter.listener, filter.flags), (None, 4));
    }
    let metadata = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#;
    assert!(matches!(error(metadata), SeccompError::Needs { .. }));
}

#[test]
fn waiting_killable_needs_a_notified_call() {
    let flag = r#","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"listenerPath":"/a""#;
    let filter = compile(&section(&notify(flag)), &X86_64).unwrap();
    assert_eq!(filter.flags, 40);
    let none = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{flag}}}"#);
    assert!(
        error(&none)
            .to_string()
            .contains("needs a rule with SCMP_ACT_NOTIFY")
    );
    let both = flag.replace(r#":["#, r#":["SECCOMP_FILTER_FLAG_TSYNC","#);
    let filter = compile(&section(&notify(&both)), &X86_64).unwrap();
    assert_eq!(
        filter.flags, 40,
        "the kernel refuses TSYNC with NEW_LISTENER"
    );
}

/// The launcher would wait for an agent that it has not reached yet.
#[test]
fn what_the_launcher_needs_cannot_be_notified() {
    let default = r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/a"}"#;
    assert_eq!(error(default), SeccompError::NotifyDefault);
    let write = notify(r#","listenerPath":"/a""#).replace("\"mkdir\"", r#""close","write""#);
    assert_eq!(error(&write), SeccompError::NotifyWrite { index: 0 });
    // The agent is there by then.
    let later = r#""execve","execveat","openat","read","close","fcntl","close_range""#;
    let later = notify(r#","listenerPath":"/a""#).replace("\"mkdir\"", later);
    compile(&section(&later), &X86_64).unwrap();
}
