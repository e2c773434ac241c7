use std::time::Duration;

use super::*;

#[test]
fn sizes() {
    for (text, bytes) in [
        ("256m", 256 << 20),
        ("1.5g", 3 << 29),
        ("512K", 512 << 10),
        ("2 GiB", 2 << 30),
        ("64MB", 64 << 20),
        ("1048576", 1 << 20),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "m",
        "512",
        "0m",
        "-1m",
        "1..5g",
        "9999999999999t",
        "1x",
        "1e3m",
        "0.0000000001k",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
    assert_eq!(heap_size("256m"), Ok(256 << 20));
    for text in ["1.5g", "256", "", "256mb", "ä", "256ä"] {
        assert!(heap_size(text).is_err(), "{text}");
    }
}

#[test]
fn durations() {
    for (text, millis) in [
        ("30s", 30_000),
        ("500ms", 500),
        ("1h30m", 5_400_000),
        ("2 h", 7_200_000),
        ("1.5s", 1500),
        ("1d", 86_400_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "30", "s", "0s", "-1s", "1y", "999999d"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn numbers_ports_signals() {
    assert_eq!(cpu_millis("1.5"), Ok(1500));
    assert_eq!(cpu_millis("2"), Ok(2000));
    assert!(
        ["0", "2x", "", "-1", "5000"]
            .iter()
            .all(|text| cpu_millis(text).is_err())
    );
    assert_eq!(count("7"), Ok(7));
    assert!(
        ["0", "+1", "1.5", "", "99999999999"]
            .iter()
            .all(|text| count(text).is_err())
    );
    assert_eq!(port("8080"), Ok(8080));
    assert!(
        ["0", "+80", "65536", "http", ""]
            .iter()
            .all(|text| port(text).is_err())
    );
    assert_eq!(signal("SIGTERM"), Ok(15));
    assert_eq!(signal("quit"), Ok(3));
    assert_eq!(signal("15"), Ok(15));
    assert!(
        ["0", "65", "SIG15", "FOO", "+9", ""]
            .iter()
            .all(|text| signal(text).is_err())
    );
}

#[test]
fn addresses_and_prefixes() {
    assert_eq!(addresses("192.168.0.5, 2001:db8::5").unwrap().len(), 2);
    for text in [
        "",
        "10.1.1",
        "127.0.0.1",
        "::1",
        "224.0.0.1",
        "0.0.0.0",
        "10.0.0.1/32",
        "10.0.0.1 10.0.0.1",
        "::ffff:10.0.0.1",
    ] {
        assert!(addresses(text).is_err(), "{text}");
    }
    assert!(pool("10.77.0.0/16").is_ok());
    assert!(
        ["10.77.0.1/16", "10.0.0.0/30", "x", "2001:db8::/64"]
            .iter()
            .all(|text| pool(text).is_err())
    );
    assert_eq!(uid_range("66000-69999"), Ok(66000..=69999));
    assert!(
        ["0-5", "9-1", "5000", "a-b"]
            .iter()
            .all(|text| uid_range(text).is_err())
    );
}

#[test]
fn paths() {
    assert_eq!(absolute_path("/a//b/./c/"), Ok(PathBuf::from("/a/b/c")));
    assert_eq!(relative_path("./target"), Ok(PathBuf::from("target")));
    assert_eq!(relative_path("."), Ok(PathBuf::from(".")));
    assert!(absolute_path("/a/../b").is_err() && absolute_path("a").is_err());
    assert!(
        relative_path("../a").is_err()
            && relative_path("/a").is_err()
            && relative_path("").is_err()
    );
    assert_eq!(
        mount("/srv/my photos rw"),
        Ok((PathBuf::from("/srv/my photos"), true))
    );
    assert_eq!(
        mount("/srv/photos"),
        Ok((PathBuf::from("/srv/photos"), false))
    );
    assert!(mount("photos rw").is_err());
}

#[test]
fn what_would_be_an_option_or_a_command_is_refused() {
    assert!(
        repository("svn://svn.example.org/myapp").is_ok() && repository("/srv/git/a.git").is_ok()
    );
    assert!(
        repository("git@git.example.org:a/b.git").is_ok()
            && repository("https://[2001:db8::1]/x").is_ok()
    );
    assert!(
        ["", "-x", "ext::sh", "a b"]
            .iter()
            .all(|text| repository(text).is_err())
    );
    assert!(tag("1.2.3").is_ok() && tag("feature/x").is_ok());
    assert!(
        ["", "--upload-pack=x", "a..b", "a b", "a^"]
            .iter()
            .all(|text| tag(text).is_err())
    );
    assert!(account("www-data").is_ok() && account("root").is_err() && account("-x").is_err());
    assert_eq!(
        capabilities("net_raw CAP_KILL").unwrap(),
        ["CAP_KILL", "CAP_NET_RAW"]
    );
    assert!(
        capabilities("CAP_NET_ROW")
            .unwrap_err()
            .contains("did you mean CAP_NET_RAW")
    );
}

#[test]
fn names() {
    assert!(["myapp", "my-app.2"].iter().all(|text| name(text).is_ok()));
    assert!(
        ["", ".x", "-x", "a/b", "..", "a b", "ä"]
            .iter()
            .all(|text| name(text).is_err())
    );
    assert!(variable_name("DB_URL").is_ok());
    assert!(
        ["1A", "A-B", "METACTL_SITE", "A B"]
            .iter()
            .all(|text| variable_name(text).is_err())
    );
}
