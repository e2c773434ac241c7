//! What is seen of an instance. As root whatever was killed is put right first.

use super::{Instance, Known};
use crate::error::Result;
use crate::service::Seen;
use crate::status::{Status, Summary};
use crate::{converge, deploy, dns, health, inspect};

impl Instance {
    /// What runs. As root this first cleans up after whatever was killed.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn status(&self) -> Result<Status> {
        let (_, notes) = self.put_right(None)?;
        inspect::status(self, notes)
    }

    /// [`status`](Instance::status), and what the daemons that run answer to what `[health.NAME]` asks: for
    /// 2 s at most, and only root can ask.
    ///
    /// # Errors
    /// As [`status`](Instance::status).
    pub fn status_and_health(&self) -> Result<Status> {
        let mut status = self.status()?;
        // What cannot be read has been said by then.
        if let Ok(Some(known)) = self.known() {
            health::now::ask(self, &known.entries, &mut status);
        }
        Ok(status)
    }

    /// The line of `list`, from what was seen a moment ago, if that is so. `known`:
    /// [`known_already`](Instance::known_already).
    pub(crate) fn summary_as(&self, seen: Option<Seen>, known: Option<Known>) -> Result<Summary> {
        let known =
            known.filter(|known| seen.as_ref().is_some_and(|seen| self.in_order(seen, known)));
        // A lock is a file that is made and removed: with hundreds of instances that is a third of the time.
        if known.is_some() {
            return inspect::summary(self, seen, known, Vec::new());
        }
        let (seen, notes) = self.put_right(seen)?;
        inspect::summary(self, seen, None, notes)
    }

    /// Whether nothing is to be put right or brought up to date, as far as that can be seen without the lock.
    fn in_order(&self, seen: &Seen, known: &Known) -> bool {
        if !seen.settled || deploy::is_underway(self) {
            return false;
        }
        let wanted = seen.look.wanted.as_ref();
        let agrees = wanted.is_none_or(|wanted| wanted.bundle == known.bundle);
        agrees && dns::leftovers(&self.dns_journal()).is_none()
    }

    /// Puts right what was killed, if this is root and nobody else is at it. What was seen before, as far as it still
    /// holds, and what was done, a sentence each.
    fn put_right(&self, mut seen: Option<Seen>) -> Result<(Option<Seen>, Vec<String>)> {
        let lock = self.try_lock("status")?;
        if lock.is_none() || !nix::unistd::geteuid().is_root() {
            return Ok((seen, Vec::new()));
        }
        let settled = |seen: &Seen| seen.settled && converge::agrees(self, &seen.look);
        let mut notes = match seen.take().filter(settled) {
            Some(settled) => {
                let done = converge::converge_settled(self)?;
                seen = Some(settled).filter(|_| done.is_empty());
                done
            }
            None => converge::converge(self)?,
        };
        notes.extend(dns::tidy(self));
        notes.extend(self.publish().err().map(|error| error.to_string()));
        Ok((seen, notes))
    }
}
