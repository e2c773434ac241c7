//! `metactl APP status`, and `metactl APP` alone.

use std::net::IpAddr;

use metactl_bundles::keys;
use metactl_lifecycle::status::EntryKind;
use metactl_lifecycle::{
    DnsStatus, EntryState, EntryStatus, HealthAnswer, HealthState, InstanceState, Status,
};

use super::{Context, list};
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table, Tone};
use crate::output::{clean, size, time};
use crate::{args, exit};

/// What runs, since when, and what it uses. The exit code is the Linux Standard Base's.
pub fn run(context: &mut Context, args: &args::Status) -> Outcome {
    let instance = context.instance()?;
    let mut in_time = true;
    let status = match (&args.wait, args.no_health) {
        (Some(time), _) => {
            let limit = keys::values::duration(time)
                .map_err(|why| Failure::usage(format!("--wait={time}: {why}")))?;
            let (status, settled) = instance.status_when_settled(limit)?;
            in_time = settled;
            status
        }
        (None, true) => instance.status()?,
        (None, false) => instance.status_and_health()?,
    };
    if context.output.json {
        context.output.facts(&status)?;
    } else {
        print(context, &status)?;
    }
    match code(status.state) {
        exit::OK if !in_time => Err(Failure::Code(exit::UNKNOWN)),
        exit::OK => Ok(()),
        code => Err(Failure::Code(code)),
    }
}

fn code(state: InstanceState) -> u8 {
    match state {
        InstanceState::Running => exit::OK,
        InstanceState::Stopped | InstanceState::NotDeployed => exit::STOPPED,
        InstanceState::Starting
        | InstanceState::Partial
        | InstanceState::Failing
        | InstanceState::Stopping
        | InstanceState::Unknown => exit::UNKNOWN,
    }
}

fn print(context: &mut Context, status: &Status) -> Outcome {
    let output = &mut context.output;
    let style = output.style;
    let state = match list::tone(status.state) {
        Tone::Good => style.good(status.state.word()),
        Tone::Bad => style.bad(status.state.word()),
        Tone::Warn => style.warn(status.state.word()),
        Tone::Plain | Tone::Faint => status.state.word().to_owned(),
    };
    let mut head = vec![format!(
        "{}: {state}",
        style.strong(&clean(&status.instance))
    )];
    head.extend(status.release.as_ref().map(|release| {
        let commit: String = release.commit.chars().take(7).collect();
        clean(&format!("{} ({commit})", release.tag)).into_owned()
    }));
    if !status.addresses.is_empty() {
        head.push(addresses(&status.addresses));
    }
    head.extend(status.uid.map(|uid| format!("uid {uid}")));
    head.extend(match status.healthy {
        Some(true) => Some(style.good("healthy")),
        Some(false) => Some(style.bad("ill")),
        None => None,
    });
    head.extend(status.memory.map(|bytes| match status.memory_limit {
        Some(limit) => format!("{} of {}", size(bytes), size(limit)),
        None => size(bytes),
    }));
    head.extend(
        status
            .since
            .as_deref()
            .map(|since| format!("since {}", time::local(since))),
    );
    output.line(head.join(" · "))?;
    output.table(&entries(&status.entries))?;
    let names = status
        .dns
        .as_ref()
        .map(DnsStatus::names)
        .unwrap_or_default();
    if !names.is_empty() {
        output.line(format!("  named {}", clean(&names.join(" "))))?;
    }
    for note in &status.notes {
        output.line(style.warn(&clean(note)))?;
    }
    Ok(output.remark(next(status))?)
}

fn entries(entries: &[EntryStatus]) -> Table {
    let mut table = Table::new().indent(2);
    for entry in entries {
        let tone = match entry.state {
            EntryState::Running => Tone::Good,
            EntryState::Waiting => Tone::Bad,
            EntryState::Starting | EntryState::Stopping => Tone::Plain,
            EntryState::Stopped | EntryState::Ended | EntryState::Scheduled => Tone::Faint,
        };
        table.row(vec![
            Cell::new(&entry.name),
            Cell::new(entry.state.word()).tone(tone),
            Cell::new(
                entry
                    .pid
                    .map(|pid| format!("pid {pid}"))
                    .unwrap_or_default(),
            ),
            Cell::new(
                entry
                    .port
                    .map(|port| format!("port {port}"))
                    .unwrap_or_default(),
            ),
            Cell::new(entry.memory.map(size).unwrap_or_default()).right(),
            Cell::new(answers(&entry.health)).tone(health_tone(&entry.health)),
            Cell::new(times(entry)),
        ]);
    }
    table
}

/// What a daemon answers: `GET /healthz → 200`.
fn answers(health: &[HealthAnswer]) -> String {
    let answers = health.iter().map(|answer| match answer.state {
        HealthState::Unknown => format!("{}: unknown, {}", answer.question, answer.answer),
        _ => format!("{} → {}", answer.question, answer.answer),
    });
    answers.collect::<Vec<_>>().join("; ")
}

fn health_tone(health: &[HealthAnswer]) -> Tone {
    let has = |state| health.iter().any(|answer| answer.state == state);
    match (has(HealthState::Ill), has(HealthState::Unknown)) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Faint,
        (false, false) => Tone::Good,
    }
}

/// Since when, what is next, and how it ended last.
fn times(entry: &EntryStatus) -> String {
    let mut parts: Vec<String> = entry.says.iter().map(|says| format!("“{says}”")).collect();
    if entry.kind == EntryKind::Cron {
        parts.extend(entry.schedule.clone());
    }
    parts.extend(
        entry
            .since
            .as_deref()
            .map(|since| format!("since {}", time::local(since))),
    );
    parts.extend(
        entry
            .next
            .as_deref()
            .map(|next| format!("next {}", time::local(next))),
    );
    if entry.restarts > 0 {
        parts.push(format!("restarted {}×", entry.restarts));
    }
    if let Some(last) = &entry.last_exit {
        parts.push(format!("last: {}, {}", last.reason, time::local(&last.at)));
    }
    parts.join(", ")
}

/// The addresses, as one cell.
pub fn addresses(addresses: &[IpAddr]) -> String {
    addresses
        .iter()
        .map(IpAddr::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn next(status: &Status) -> String {
    let name = &status.instance;
    match status.state {
        InstanceState::NotDeployed => format!("Next: metactl {name} deploy"),
        InstanceState::Stopped => format!("Next: metactl {name} start"),
        InstanceState::Running | InstanceState::Starting | InstanceState::Stopping => {
            format!("More: metactl {name} logs, firewall, show --origin")
        }
        InstanceState::Partial | InstanceState::Failing | InstanceState::Unknown => {
            format!("Look at: metactl {name} logs")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_linux_standard_base() {
        assert_eq!(code(InstanceState::Running), 0);
        assert_eq!(code(InstanceState::Stopped), 3);
        assert_eq!(code(InstanceState::NotDeployed), 3);
        assert_eq!(code(InstanceState::Partial), 4);
        assert_eq!(code(InstanceState::Failing), 4);
    }
}
