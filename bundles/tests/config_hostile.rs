//! Input that wants to cost memory or time, or to make the program fall over.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use metactl_bundles::app::App;
use metactl_bundles::diagnostics::{MAX_DIAGNOSTICS, Report};
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;

/// Generous: the machine may be busy and the build is not optimized.
const PATIENCE: Duration = Duration::from_secs(60);

fn load(text: String) -> Result<(Config, App), Report> {
    assert!(
        text.len() <= 1024 * 1024,
        "{} bytes would not be read",
        text.len()
    );
    let begin = Instant::now();
    let source = Source::new(LayerKind::App, PathBuf::from(".metactl"), text);
    let result = model::load(vec![source], "a");
    if let Err(report) = &result {
        let text = report.to_string();
        assert!(text.len() < 1024 * 1024, "a report of {} bytes", text.len());
    }
    let took = begin.elapsed();
    assert!(took < PATIENCE, "{took:?}");
    result
}

fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn exponential_growth_is_an_error() {
    let mut text = String::from("[env]\nA0 = 0123456789\n");
    for n in 1..30 {
        let _ = writeln!(text, "A{n} = %(A{0})%(A{0})%(A{0})%(A{0})", n - 1);
    }
    let report = load(text).unwrap_err().to_string();
    assert!(report.contains("becomes too long"), "{report}");
}

#[test]
fn many_large_values_are_an_error() {
    let text = format!(
        "[env]\nB = {}\n{}",
        "x".repeat(100_000),
        repeated(30_000, |n| format!("A{n} = %(B)\n"))
    );
    let report = load(text).unwrap_err().to_string();
    assert!(report.contains("all together 16 MiB"), "{report}");
}

#[test]
fn a_deep_chain_is_an_error_in_either_order() {
    for reversed in [false, true] {
        let mut lines: Vec<String> = (0..20_000)
            .map(|n| format!("A{n} = %(A{})\n", n + 1))
            .collect();
        lines.push("A20000 = x\n".to_owned());
        if reversed {
            lines.reverse();
        }
        let report = load(format!("[env]\n{}", lines.concat()))
            .unwrap_err()
            .to_string();
        assert!(
            report.contains("more than 32 names in a chain"),
            "{}",
            &report[..500]
        );
    }
}

#[test]
fn thousands_of_faults_make_a_short_report() {
    let report = load(repeated(50_000, |n| format!("[x{n}]\nk\n"))).unwrap_err();
    assert_eq!(report.diagnostics().len(), MAX_DIAGNOSTICS);
    assert!(report.total() >= 50_000);
    let references = format!("[env]\nA = {}\n", "%(X".repeat(200_000));
    assert!(load(references).is_err());
    let unknown = repeated(20_000, |n| format!("[daemon.d{n}]\nplatfrm = x\n"));
    assert!(load(unknown).is_err());
}

#[test]
fn one_enormous_line_is_cut() {
    let report = load(format!(
        "[env]\nA = {}%(X){}\n",
        "x".repeat(100_000),
        "y".repeat(500_000)
    ))
    .unwrap_err();
    let text = report.to_string();
    assert!(
        text.contains(".metactl:2:100005") && text.len() < 2000,
        "{}",
        text.len()
    );
    let header = load(format!("[{}]\n", "a".repeat(1_000_000)))
        .unwrap_err()
        .to_string();
    assert!(
        header.len() < 2000 && header.contains("too long"),
        "{}",
        header.len()
    );
    let key = load(format!("[env]\n{} = 1\n", "a".repeat(1_000_000)))
        .unwrap_err()
        .to_string();
    assert!(key.len() < 2000, "{}", key.len());
}

#[test]
fn thousands_of_everything_take_a_moment() {
    let daemons = repeated(10_000, |n| {
        format!("[daemon.d{n}]\ncommand = x\nafter = d{}\n", n + 1)
    });
    assert!(
        load(daemons)
            .unwrap_err()
            .to_string()
            .contains("no daemon `d10000`")
    );
    let cycle = repeated(10_000, |n| {
        format!(
            "[daemon.d{n}]\ncommand = x |\nafter = d{}\n",
            (n + 1) % 10_000
        )
    });
    assert!(
        load(cycle)
            .unwrap_err()
            .to_string()
            .contains("wait for each other")
    );
    let jobs = format!(
        "[crontab]\n{}",
        repeated(20_000, |n| format!("j {n} = @daily x\n"))
    );
    assert_eq!(load(jobs).unwrap().1.cron.len(), 20_000);
    let same = format!(
        "[crontab]\n{}",
        repeated(10_000, |n| format!(
            "j{} = @daily x\n",
            "-".repeat(n % 80) + &n.to_string()
        ))
    );
    assert!(load(same).is_ok());
    let accept = format!(
        "[firewall.out.accept]\n{}",
        repeated(20_000, |n| format!("e{n} = h{n}.example.org:80,443\n"))
    );
    assert_eq!(load(accept).unwrap().1.sandbox.out.accept.len(), 20_000);
    let continued = format!("[env]\nA = x\n{}", " y\n".repeat(100_000));
    assert!(load(continued).is_err(), "longer than a variable can be");
}

#[test]
fn jobs_whose_names_become_the_same_file_stay_apart() {
    // Names of only signs all become `job`.
    let names = repeated(3000, |n| {
        format!(
            "{} = @daily x\n",
            "-".repeat(n % 180 + 1) + &"+".repeat(n / 180)
        )
    });
    let (_, app) = load(format!("[crontab]\n{names}")).unwrap();
    let mut slugs: Vec<_> = app.cron.iter().map(|job| &job.slug).collect();
    slugs.sort_unstable();
    slugs.dedup();
    assert_eq!(slugs.len(), app.cron.len());
}

#[test]
fn the_terminal_is_not_spoken_to() {
    let report =
        load("[env]\nA = \u{202e}%(X)\n[\u{202e}x]\n\u{1b}]0;title = 1\n".to_owned()).unwrap_err();
    let text = report.to_string();
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{202e}'),
        "{text}"
    );
}
