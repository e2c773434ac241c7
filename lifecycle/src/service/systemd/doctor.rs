//! What `metactl doctor` says about the timer that looks after networks and names: no process of metactl stays, so nobody
//! else would notice that it does not do its work.

use metactl_netns::doctor::Finding;

use super::mend::{self, Trouble};
use super::names::{MEND, MEND_TIMER};
use crate::error::Result;
use crate::manager::Manager;

/// What keeps the timer from its work, where there is some for it.
pub(super) fn mending(manager: &Manager) -> Result<Option<Finding>> {
    let instances = manager.looked_after_by_timer()?;
    let Some(first) = instances.first() else {
        return Ok(None);
    };
    let asked = match mend::trouble() {
        Ok(trouble) => trouble,
        Err(error) => Some(Trouble::Unknown {
            why: error.to_string(),
        }),
    };
    Ok(asked.map(|trouble| finding(&trouble, first, instances.len())))
}

fn finding(trouble: &Trouble, first: &str, count: usize) -> Finding {
    let start = format!("systemctl start {MEND_TIMER}");
    let (place, what, mend, lasting) = match trouble {
        Trouble::Missing(unit) => (
            *unit,
            format!("there is no {unit}"),
            // Writes the units anew, and leaves alone what runs.
            vec![format!("metactl {first} start")],
            "",
        ),
        Trouble::Masked(unit) => (
            *unit,
            format!("{unit} is masked"),
            vec![format!("systemctl unmask --runtime {unit}"), start],
            "somebody masked it, and may have had a reason",
        ),
        Trouble::Stopped => (
            MEND_TIMER,
            format!("{MEND_TIMER} does not run"),
            vec![start],
            "",
        ),
        Trouble::Over => (
            MEND_TIMER,
            format!("{MEND_TIMER} has no next time"),
            vec![format!("systemctl restart {MEND_TIMER}")],
            "",
        ),
        Trouble::Unknown { why } => (
            MEND_TIMER,
            format!("systemd does not say how {MEND_TIMER} is: {why}"),
            vec![format!("systemctl status {MEND_TIMER}")],
            "",
        ),
        Trouble::Failed { result } => (
            MEND,
            format!("{MEND} failed the last time ({result})"),
            vec![format!("systemctl start {MEND}")],
            "journalctl -u metactl-mend.service says what it met",
        ),
    };
    let who = match count {
        1 => first.to_owned(),
        many => format!("{first} and {} more", many - 1),
    };
    Finding {
        check: "mending",
        what,
        place: place.to_owned(),
        why: format!(
            "what others break in the network of {who} stays broken until somebody types metactl mend, and its names in the \
             DNS stay as they are"
        ),
        mend,
        lasting: lasting.to_owned(),
    }
}
