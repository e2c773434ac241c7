//! Names and repositories that are refused, and where a password is not.

use super::*;

#[test]
fn names_that_git_could_take_for_something_else_are_refused() {
    for good in ["1.2.3", "v1", "feature/x", "9f2c1e4", "release_2026-11+1"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "-x",
        "--upload-pack=touch /tmp/x",
        "a..b",
        "a b",
        "a\nb",
        "x^",
        "x~1",
        "HEAD@{1}",
        "a:b",
        "a/.b",
        "x.lock",
        "/x",
        "x/",
        "a//b",
        "@",
        "x.",
    ] {
        assert!(check_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn repositories_that_run_commands_are_refused() {
    let new = |repo: &str| Git::new(&Settings::plain(repo), "/c".into());
    for bad in [
        "",
        "-oProxyCommand=x",
        "ext::sh -c touch% /tmp/x",
        "fd::7",
        "a\nb",
    ] {
        assert!(new(bad).is_err(), "{bad:?}");
    }
    for good in [
        "https://git.example.org/a.git",
        "git@example.org:a.git",
        "/srv/a",
        "ssh://x/[::1]/a",
    ] {
        assert!(new(good).is_ok(), "{good}");
    }
    for bad in [
        "https://u:secret@x/a\n",
        "ssh://u:secret@x/a",
        "https://u:secret%0a@x/a",
        "https://u:secret/s@x/a",
    ] {
        let text = new(bad).unwrap_err().to_string();
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_password_is_on_no_command_line() {
    let new = |repo: &str| Git::new(&Settings::plain(repo), "/c".into()).unwrap();
    let git = new("https://u:secret@h:1/a.git");
    let text = format!("{:?} {git:?}", git.command());
    assert!(text.contains("https://h:1/a.git"), "{text}");
    // Its settings still hold what was configured.
    let told = text.replace("https://u:secret@h:1/a.git", "");
    assert!(!told.contains("secret"), "{text}");
    assert_eq!(git.shown(), "https://h:1/a.git");
    // A submodule on the same host is asked for by the same person, one elsewhere by nobody.
    let beside = |url: &str| git.beside(url).unwrap().credentials.map(|c| c.user);
    assert_eq!(beside("https://h:1/lib.git").as_deref(), Some("u"));
    assert_eq!(beside("https://h:2/lib.git"), None);
    assert_eq!(beside("http://h:1/lib.git"), None);
    // With another password it is the same place in the cache, with another user it is not.
    assert_eq!(git.cache, new("https://u:other@h:1/a.git").cache);
    assert_ne!(git.cache, new("https://v:secret@h:1/a.git").cache);
    assert_ne!(git.cache, new("https://h:1/a.git").cache);
}
