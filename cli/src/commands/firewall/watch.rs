//! `metactl APP firewall --watch`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use metactl_lifecycle::{Direction, Firewall, Instance, Interrupt, LifecycleError};

use super::{View, when, word};
use crate::commands::Context;
use crate::failure::Outcome;
use crate::output::{clean, time};

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);

/// Until Ctrl-C. The instance may be restarted meanwhile.
pub(super) fn run(context: &mut Context, instance: &Instance) -> Outcome {
    let interrupt = Interrupt::hold()?;
    let mut shown = Shown::default();
    if context.output.terminal && !context.output.json {
        // A screen of its own: what was there before comes back.
        context.output.line("\x1b[?1049h\x1b[?25l")?;
    }
    let ended = loop {
        let result = match instance.firewall() {
            Ok(firewall) => shown.show(context, instance.name(), Some(&firewall)),
            Err(LifecycleError::NotRunning { .. }) => shown.show(context, instance.name(), None),
            Err(error) => Err(error.into()),
        };
        if result.is_err() {
            break result;
        }
        if interrupt.wait(TICK)? {
            break Ok(());
        }
    };
    if context.output.terminal && !context.output.json {
        context.output.line("\x1b[?25h\x1b[?1049l")?;
        context.output.flush()?;
    }
    ended
}

/// What somebody who watches has seen.
#[derive(Default)]
struct Shown {
    counts: BTreeMap<(Direction, IpAddr, String, u16), u64>,
    last: String,
    begun: bool,
    /// Whether it was said that the instance does not run.
    down: bool,
}

impl Shown {
    fn show(&mut self, context: &mut Context, name: &str, found: Option<&Firewall>) -> Outcome {
        let view = found.map(|firewall| View {
            instance: name,
            firewall,
        });
        match (&view, context.output.json, context.output.terminal) {
            (Some(view), true, _) => self.object(context, view)?,
            (_, false, true) => screen(context, name, view.as_ref())?,
            (view, false, false) => {
                self.comings(context, name, view.is_some())?;
                if let Some(view) = view {
                    self.refusals(context, view)?;
                }
            }
            (None, true, _) => {}
        }
        Ok(context.output.flush()?)
    }

    /// One object on a line, when something is not as it was.
    fn object(&mut self, context: &mut Context, view: &View<'_>) -> Outcome {
        // Times go on by themselves: that alone is nothing new.
        let mut still = view.firewall.clone();
        still.status.learning = still.status.learning.map(|_| 0);
        still
            .status
            .refused
            .iter_mut()
            .for_each(|one| one.seconds_ago = 0);
        still.status.entries.iter_mut().for_each(|one| {
            one.expires.values_mut().for_each(|left| *left = 0);
        });
        for one in still.asked.names.values_mut() {
            one.last = 0;
            one.addresses
                .values_mut()
                .for_each(|until| *until = u64::MAX);
        }
        still
            .asked
            .refused
            .values_mut()
            .for_each(|one| one.last = 0);
        let still = View {
            firewall: &still,
            ..*view
        };
        let text = serde_json::to_string(&still.facts())?;
        if text != self.last {
            context.output.facts_line(&view.facts())?;
            self.last = text;
        }
        Ok(())
    }

    /// A line when the instance is found stopped, and when it runs again.
    fn comings(&mut self, context: &mut Context, name: &str, runs: bool) -> Outcome {
        if self.down == runs {
            self.down = !runs;
            let now = time::local(&Timestamp::now().to_string());
            let news = match runs {
                true => "runs again",
                false => "does not run",
            };
            context
                .output
                .line(clean(&format!("{now}  {name} {news}")))?;
        }
        Ok(())
    }

    /// A line for every refusal that is new. What was there at the beginning is only counted.
    fn refusals(&mut self, context: &mut Context, view: &View<'_>) -> Outcome {
        for refused in &view.firewall.status.refused {
            let key = (
                refused.direction,
                refused.dst,
                refused.proto.clone(),
                refused.port,
            );
            let before = self.counts.insert(key, refused.count).unwrap_or_default();
            // Forgotten after an hour, or with the sandbox, it begins at one again.
            let new = refused.count.checked_sub(before).unwrap_or(refused.count);
            if self.begun && new > 0 {
                let line = format!(
                    "{}  {}  {new}×  {} {}  {}",
                    time::local(&when(refused)),
                    word(refused.direction),
                    view.end(refused),
                    refused.proto,
                    view.way_out(refused)
                );
                context.output.line(clean(&line))?;
            }
        }
        self.begun = true;
        Ok(())
    }
}

/// The whole view, over the one before.
fn screen(context: &mut Context, name: &str, view: Option<&View<'_>>) -> Outcome {
    let style = context.output.style;
    let rows =
        rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or(24, |size| size.ws_row);
    let now = time::local(&Timestamp::now().to_string());
    let mut lines = vec![style.faint(&format!("{name}   {now}   Ctrl-C ends this"))];
    match view {
        Some(view) => lines.extend(view.lines(style)),
        None => lines.push(format!("{name} does not run")),
    }
    lines.truncate(usize::from(rows.max(4)) - 1);
    let mut text = String::from("\x1b[H");
    for line in &lines {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    Ok(context.output.text(&text)?)
}
