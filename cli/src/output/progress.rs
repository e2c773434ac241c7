//! Steps as they happen: `✓ build  48.3 s  mvn package`.
//!
//! On a terminal the step under way is shown with a running clock, on one line that is rewritten.
//! Anywhere else there is one plain line for each step, when it has ended.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metactl_lifecycle::Progress;

use super::{Style, clean, duration};
use crate::args::Global;

/// How often the clock of the step under way is redrawn.
const TICK: Duration = Duration::from_millis(100);
/// Names of steps are short words; longer ones push their line to the right.
const NAME_WIDTH: usize = 8;
/// `59.9 s`, `1m 52s`, `100 ms`.
const TIME_WIDTH: usize = 7;

/// Progress on standard error.
pub struct Steps {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    style: Style,
    /// Whether a line may be rewritten.
    live: bool,
    quiet: bool,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    current: Option<Step>,
    closing: bool,
}

struct Step {
    name: String,
    detail: String,
    /// How far it is; shown while it is under way.
    now: String,
    since: Instant,
}

impl Steps {
    /// Progress as the global options want it: none with `--quiet` or `--json`.
    pub fn new(global: &Global) -> Steps {
        let terminal = io::stderr().is_terminal();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let shared = Arc::new(Shared {
            style: Style::decide(global.color, terminal),
            live: terminal && !dumb,
            quiet: global.quiet || global.json,
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        Steps {
            shared,
            ticker: None,
        }
    }

    /// Starts the clock, once, and only where somebody watches it.
    fn tick(&mut self) {
        if self.ticker.is_none() && self.shared.live && !self.shared.quiet {
            let shared = Arc::clone(&self.shared);
            // Without a thread the steps are still shown, only the clock stands still.
            self.ticker = std::thread::Builder::new()
                .name("progress".to_owned())
                .spawn(move || shared.redraw_until_closed())
                .ok();
        }
    }
}

impl Progress for Steps {
    fn begin(&mut self, step: &str, detail: &str) {
        self.tick();
        let mut state = self.shared.lock();
        state.current = Some(Step {
            name: clean(step).into_owned(),
            detail: one_line(detail),
            now: String::new(),
            since: Instant::now(),
        });
        self.shared.draw(&state);
    }

    fn end(&mut self, ok: bool, detail: &str) {
        let mut state = self.shared.lock();
        let Some(mut step) = state.current.take() else {
            return;
        };
        if !detail.is_empty() {
            step.detail = one_line(detail);
        }
        let style = self.shared.style;
        let mark = if ok {
            style.good("✓")
        } else {
            style.bad("✗")
        };
        self.shared.print(&step.line(&mark));
    }

    fn update(&mut self, detail: &str) {
        let mut state = self.shared.lock();
        // Only a line that can be rewritten has room for it; the clock redraws it.
        if let (true, Some(step)) = (self.shared.live, state.current.as_mut()) {
            step.now = one_line(detail);
        }
    }

    fn note(&mut self, line: &str) {
        let state = self.shared.lock();
        self.shared.print(&clean(line));
        self.shared.draw(&state);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        // A step that never ended: an error is about to say why.
        if let Some(step) = state.current.take() {
            self.shared.print(&step.line(&self.shared.style.bad("✗")));
        }
        drop(state);
        self.shared.ended.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // It can only have panicked, and then there is nothing to wait for.
            let _ended = ticker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line that stays.
    fn print(&self, line: &str) {
        if !self.quiet {
            let clear = if self.live { "\r\x1b[K" } else { "" };
            write_stderr(&format!("{clear}{line}\n"));
        }
    }

    /// Rewrites the line of the step under way.
    fn draw(&self, state: &State) {
        if let (false, true, Some(step)) = (self.quiet, self.live, &state.current) {
            let width = rustix::termios::tcgetwinsize(io::stderr())
                .map_or(0, |size| usize::from(size.ws_col));
            // A terminal that does not know its width says 0.
            let width = if width == 0 { 80 } else { width };
            // Cut, so that it stays one line; the mark is the only cell that may be coloured.
            let line = format!("{}  {}", step.line("·"), step.now);
            let line: String = line.trim_end().chars().take(width - 1).collect();
            write_stderr(&format!("\r\x1b[K{line}"));
        }
    }

    fn redraw_until_closed(&self) {
        let mut state = self.lock();
        while !state.closing {
            let woken = self
                .ended
                .wait_timeout(state, TICK)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken.0;
            self.draw(&state);
        }
    }
}

impl Step {
    fn line(&self, mark: &str) -> String {
        let time = duration(self.since.elapsed());
        let line = format!(
            "  {mark} {:<NAME_WIDTH$} {time:>TIME_WIDTH$}  {}",
            self.name, self.detail
        );
        line.trim_end().to_owned()
    }
}

/// Progress is a courtesy: when standard error is gone, the work goes on.
fn write_stderr(text: &str) {
    let mut stderr = io::stderr().lock();
    let _courtesy = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

fn one_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line() {
        let step = Step {
            name: "build".to_owned(),
            detail: one_line("mvn\npackage"),
            now: String::new(),
            since: Instant::now(),
        };
        assert_eq!(step.line("✓"), "  ✓ build       0 ms  mvn package");
    }
}
