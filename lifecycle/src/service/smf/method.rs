//! Methods: what svc.startd runs (smf_method(7)). Pure.
//!
//! A method is a line for `/sbin/sh`, behind `exec`, in which `%` begins a token of svc.startd. So every word is in
//! quotes, and every `%` doubled. On the oldest systems that shell is the Bourne shell: no `$( )`.

use std::path::Path;

use metactl_bundles::app::Restart;

use super::process::Process;

/// There is nothing to do.
pub(super) const NOTHING: &str = ":true";
/// What cannot be mended by trying again: svc.startd puts the service into maintenance at once.
const ERR_FATAL: i32 = 95;
/// Something is missing that the service needs.
const ERR_CONFIG: i32 = 96;
/// What the line begins with by which a method says how its program ended.
pub(super) const ENDED: &str = "metactl: exit code ";
/// The shell.
const SHELL: &str = "/bin/sh";

/// The start method of a daemon, whose process is the service (`startd/duration` is `child`).
pub(super) fn start(process: &Process, restart: Restart) -> String {
    let ended = match restart {
        // svc.startd starts it again, whatever it ended with: the process is the application.
        Restart::Always if process.secrets.is_empty() => return line(&process.args),
        Restart::Always => {
            return shell(&format!("{}exec \"$@\"", secrets(process)), &process.args);
        }
        // As it may, or was told to. What stays is a shell that waits to be stopped: ending, it would be started again.
        Restart::OnFailure => "case $code in 0|143) ;; *) exit $code;; esac; ",
        Restart::Never => "",
    };
    let script = format!(
        "{}\"$@\"; code=$?; echo \"{ENDED}$code\"; {ended}while :; do sleep 86400; done",
        secrets(process)
    );
    shell(&script, &process.args)
}

/// The start method of a cron job, which ends when the job does. One that fails is not tried again: for svc.startd any
/// failure of it is one that trying does not mend. Stopped by a signal to all of its processes, the shell lives to tell:
/// for a method that was killed, svc.startd would try again.
pub(super) fn job(process: &Process) -> String {
    let script = format!(
        "trap : TERM; {}\"$@\"; code=$?; echo \"{ENDED}$code\"; [ $code -eq 0 ] || exit {ERR_FATAL}",
        secrets(process)
    );
    shell(&script, &process.args)
}

/// The stop method: the signal goes to every process of the contract, and whatever is there after the time limit is
/// killed by svc.startd. Numbers of signals are not the same everywhere, names are.
pub(super) fn stop(signal: i32) -> String {
    let named = nix::sys::signal::Signal::try_from(signal);
    match named {
        Ok(signal) => format!(":kill -{}", signal.as_str().trim_start_matches("SIG")),
        Err(_) => format!(":kill -{signal}"),
    }
}

/// Secret variables are read by the method: what stands in the repository of SMF, everybody on the server can read.
fn secrets(process: &Process) -> String {
    let read = |(variable, secret): (&String, &String)| {
        let file = Path::new("/run/secrets").join(secret);
        let file = quoted(&file.to_string_lossy());
        format!("{variable}=`cat {file}` || exit {ERR_CONFIG}; export {variable}; ")
    };
    process.secrets.iter().map(read).collect()
}

/// A script of the shell with the words of the program as `"$@"`.
fn shell(script: &str, args: &[String]) -> String {
    let begin = [SHELL, "-c", script, "metactl"].map(str::to_owned);
    let words: Vec<String> = begin.into_iter().chain(args.iter().cloned()).collect();
    line(&words)
}

/// The words as a line that svc.startd and its shell take apart again.
fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ").replace('%', "%%")
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn process(args: &[&str], secrets: &[(&str, &str)]) -> Process {
        Process {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            secrets: secrets
                .iter()
                .map(|(name, secret)| ((*name).to_owned(), (*secret).to_owned()))
                .collect(),
            ..Process::default()
        }
    }

    /// What a method comes to when svc.startd has taken its tokens out.
    fn run(method: &str) -> (String, i32) {
        let text = method.replace("%%", "%");
        let output = Command::new("sh")
            .args(["-c", &format!("exec {text}")])
            .output()
            .unwrap();
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            output.status.code().unwrap_or(-1),
        )
    }

    #[test]
    fn words_come_through_svc_startd_and_the_shell() {
        let hostile = [
            "a b",
            "",
            "'",
            "\"$HOME\"",
            "`id`",
            "%s%%",
            "new\nline",
            "\\",
            "*",
            "ü;&|<>",
        ];
        let mut args = vec!["printf", "[%s]"];
        args.extend(hostile);
        let expected: String = hostile.iter().map(|word| format!("[{word}]")).collect();
        let plain = start(&process(&args, &[]), Restart::Always);
        assert_eq!(run(&plain), (expected.clone(), 0));
        let (said, code) = run(&job(&process(&args, &[])));
        assert_eq!((said, code), (format!("{expected}{ENDED}0\n"), 0));
    }

    #[test]
    fn a_job_that_fails_is_not_tried_again() {
        let failing = process(&["sh", "-c", "echo no; exit 7"], &[]);
        let (said, code) = run(&job(&failing));
        assert_eq!((said.as_str(), code), ("no\nmetactl: exit code 7\n", 95));
        let killed = process(&["sh", "-c", "kill -9 $$"], &[]);
        assert_eq!(
            run(&job(&killed)),
            ("metactl: exit code 137\n".to_owned(), 95)
        );
    }

    #[test]
    fn who_has_ended_for_good_is_not_started_again() {
        // What fails ends, and is started again.
        let failing = process(&["sh", "-c", "exit 4"], &[]);
        let (said, code) = run(&start(&failing, Restart::OnFailure));
        assert_eq!((said.as_str(), code), ("metactl: exit code 4\n", 4));
        for (args, restart) in [
            (["true"], Restart::OnFailure),
            (["false"], Restart::Never),
            (["true"], Restart::Never),
        ] {
            // `sleep` is what waits: without it the loop would not end.
            let method = start(&process(&args, &[]), restart);
            assert!(method.contains("sleep 86400"), "{method}");
            let (said, code) = run(&method.replace("do sleep 86400; done", "do exit 3; done"));
            assert!(said.starts_with(ENDED) && code == 3, "{said} {code}");
        }
    }

    #[test]
    fn secrets_are_read_by_the_method() {
        let method = start(
            &process(&["printenv", "PW"], &[("PW", "db.pw")]),
            Restart::Always,
        );
        assert_eq!(
            method,
            "/bin/sh -c 'PW=`cat /run/secrets/db.pw` || exit 96; export PW; exec \"$@\"' metactl printenv PW"
        );
        // A secret that is not there is an error of the configuration, not an empty one.
        assert_eq!(run(&method), (String::new(), 96));
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(stop(15), ":kill -TERM");
        assert_eq!(stop(2), ":kill -INT");
        assert_eq!(stop(40), ":kill -40");
    }
}
