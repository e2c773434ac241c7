//! What no process of metactl stays for: under a service manager the networks and names of the instances are looked after
//! by a command that comes again and again, and ends.
//!
//! What others took away of a network is put back (`crate::mend`), names are registered and removed (`crate::dns`).
//! Nothing is restarted for that. A timer asks for it, a line of cron, or somebody by hand.

use std::path::Path;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::{EntryKind, Manifest, read_manifest};
use metactl_bundles::network::NetworkSpec;
use metactl_netns::dns_update::Patience;
use serde::Serialize;

use crate::dns::{self, Registration, Task, Unwilling, Watched, host_label};
use crate::error::Result;
use crate::instance::Instance;
use crate::lock::Lock;
use crate::manager::{Manager, require_root};
use crate::service::Look;
use crate::standalone::network::{Network, needs_resolver};
use crate::standalone::records::{EntryReport, Report, Wanted};
use crate::status::EntryState;
use crate::{converge, files};

/// How long a timer's look stays while something is about to change.
const STAY: Duration = Duration::from_secs(25);
/// How often it looks then.
const TICK: Duration = Duration::from_millis(500);

/// What came of looking after an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mended {
    /// Its name.
    pub instance: String,
    /// What was put back, or done with its names, a sentence each.
    pub done: Vec<String>,
    /// What could not be put right, a sentence each.
    pub troubles: Vec<String>,
    /// Those of them that the look before had not met.
    #[serde(skip)]
    pub new: Vec<String>,
    #[serde(skip)]
    soon: bool,
}

impl Mended {
    fn trouble(&mut self, trouble: String) {
        self.new.push(trouble.clone());
        self.troubles.push(trouble);
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Somebody, who wants all of it now.
    Hand,
    /// A timer: what is due.
    Timer,
}

impl By {
    /// How long it waits for somebody who is at work on the instance. Who has the lock does the same; a person
    /// wants to be told what came of it.
    fn patience(self) -> Duration {
        match self {
            By::Hand => Duration::from_secs(5),
            By::Timer => Duration::ZERO,
        }
    }
}

impl Manager {
    /// Looks after the networks and names of all instances, now.
    ///
    /// # Errors
    /// Not root, or the instances cannot be found. What is wrong with a single one is among its troubles.
    pub fn mend(&self) -> Result<Vec<Mended>> {
        require_root("mending")?;
        let mut unwilling = Unwilling::default();
        let names = self.instances()?;
        let mut done = Vec::new();
        for name in &names {
            done.push(self.named(name).look_after(By::Hand, &mut unwilling));
        }
        done.extend(self.deleted(&names)?);
        Ok(done)
    }

    /// The same as often as a timer asks for it: does what is due, stays up to half a minute while something is about to
    /// change (what was started is not healthy yet), and ends the timer of the service manager when nothing is left to
    /// look after. `tell` gets each instance with news.
    ///
    /// # Errors
    /// As [`mend`](Manager::mend), and those of `tell`.
    pub fn mend_again<E: From<crate::LifecycleError>>(
        &self,
        tell: &mut dyn FnMut(&Mended) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        require_root("mending")?;
        let deadline = Instant::now() + STAY;
        let mut unwilling = Unwilling::default();
        let mut restless = Vec::new();
        let names = self.instances()?;
        for name in &names {
            let mended = self.named(name).look_after(By::Timer, &mut unwilling);
            tell(&mended)?;
            restless.extend(mended.soon.then(|| name.clone()));
        }
        for mended in self.deleted(&names)? {
            tell(&mended)?;
        }
        while Instant::now() < deadline {
            let asked = |name: &String| dns::is_asked(&self.named(name));
            restless.extend(self.instances()?.into_iter().filter(asked));
            restless.sort();
            restless.dedup();
            if restless.is_empty() {
                break;
            }
            std::thread::sleep(TICK);
            for name in std::mem::take(&mut restless) {
                let mended = self.named(&name).look_at_names(By::Timer, &mut unwilling);
                tell(&mended)?;
                restless.extend(mended.soon.then_some(name));
            }
        }
        Ok(self.rest()?)
    }

    fn named(&self, name: &str) -> Instance {
        Instance {
            manager: self.clone(),
            name: name.to_owned(),
        }
    }

    /// The names of instances that are no more.
    fn deleted(&self, names: &[String]) -> Result<Vec<Mended>> {
        let lines = dns::sweep(self, names)?;
        let mended = |line: String| match line.split_once(": ") {
            Some((instance, what)) => Mended {
                instance: instance.to_owned(),
                done: vec![what.to_owned()],
                ..Mended::default()
            },
            None => Mended::default(),
        };
        Ok(lines.into_iter().map(mended).collect())
    }

    fn rest(&self) -> Result<()> {
        // First: who cannot read the server's settings has not looked after anything, and says so.
        let service = self.service_manager()?.kind.manager();
        if self.is_anything_left()? {
            return Ok(());
        }
        service.rest(&|| self.is_anything_left())
    }

    /// The instances that nobody but the timer looks after: their networks can be damaged, or names of them are left.
    pub(crate) fn looked_after_by_timer(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for name in self.instances()? {
            let instance = self.named(&name);
            if instance.service()?.has_supervisor() {
                continue;
            }
            let spec: Option<NetworkSpec> = files::read_json(&instance.run_dir().network())?;
            let has_network = spec.as_ref().is_some_and(needs_resolver);
            if has_network || dns::leftovers(&instance.dns_journal()).is_some() {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Whether there is a network or a name without a supervisor.
    fn is_anything_left(&self) -> Result<bool> {
        let probe = self.paths.instance_dns("x");
        let journals = probe.parent().map(files::entries).transpose()?;
        if journals.is_some_and(|found| !found.is_empty()) {
            return Ok(true);
        }
        let names = self.instances()?;
        Ok(names.iter().any(|name| self.named(name).is_up()))
    }
}

impl Instance {
    /// Looks after the network and the names of this instance, now.
    ///
    /// # Errors
    /// Not root. What could not be put right is among the troubles.
    pub fn mend(&self) -> Result<Mended> {
        require_root("mending")?;
        Ok(self.look_after(By::Hand, &mut Unwilling::default()))
    }

    fn is_up(&self) -> bool {
        self.run_dir().network().exists()
    }

    fn look_after(&self, by: By, unwilling: &mut Unwilling) -> Mended {
        match self.service().map(|service| service.has_supervisor()) {
            Ok(true) => self.have_looked_after(by),
            Ok(false) if self.is_up() => {
                let mut mended = self.look_at_network(by);
                let names = self.look_at_names(by, unwilling);
                mended.done.extend(names.done);
                mended.troubles.extend(names.troubles);
                mended.new.extend(names.new);
                mended.soon = names.soon;
                mended
            }
            Ok(false) => self.look_at_leftovers(by),
            Err(error) => self.failed(&error.to_string()),
        }
    }

    fn failed(&self, why: &str) -> Mended {
        let mut mended = self.untouched();
        mended.trouble(why.to_owned());
        mended
    }

    fn untouched(&self) -> Mended {
        Mended {
            instance: self.name.clone(),
            ..Mended::default()
        }
    }

    /// Its supervisor does it, every now and then. By hand it is done here, so that who asks learns what it was; where the
    /// supervisor has died, there is another one then.
    fn have_looked_after(&self, by: By) -> Mended {
        let mut mended = self.untouched();
        if by == By::Timer {
            return mended;
        }
        let looked = self
            .lock_if_free("mend", by.patience())
            .and_then(|lock| match lock {
                Some(_lock) => {
                    mended.done = converge::converge(self)?;
                    let network = network(self, by.patience());
                    self.service()?.look_again(self);
                    network
                }
                // Who has the lock does it.
                None => Ok(None),
            });
        match looked {
            Ok(lines) => mended.done.extend(of_network(lines.unwrap_or_default())),
            Err(error) => mended.trouble(error.to_string()),
        }
        mended.done.extend(dns::tidy(self));
        mended
    }

    fn look_at_network(&self, by: By) -> Mended {
        let mut mended = self.untouched();
        let told = Told::of(self);
        let looked = self
            .lock_if_free("mend", by.patience())
            .and_then(|lock| match lock {
                Some(_lock) => network(self, by.patience()),
                None => Ok(None),
            });
        match looked {
            Ok(None) => {}
            Ok(Some(lines)) => {
                mended.done = of_network(lines).collect();
                told.forget();
            }
            Err(error) => {
                let why = format!("network: {error}");
                if by == By::Hand || told.is_new(&why) {
                    mended.new.push(why.clone());
                }
                mended.troubles.push(why);
            }
        }
        mended
    }

    fn look_at_names(&self, by: By, unwilling: &mut Unwilling) -> Mended {
        match self.try_names(by, unwilling) {
            Ok(mended) => mended,
            Err(error) => self.failed(&format!("names: {error}")),
        }
    }

    fn try_names(&self, by: By, unwilling: &mut Unwilling) -> Result<Mended> {
        let mut mended = self.untouched();
        let current = self.current()?;
        let named = current.is_some_and(|current| current.manifest.dns.is_some());
        if !named && !self.dns_journal().exists() && !dns::is_asked(self) {
            return Ok(mended);
        }
        let task = match task(self)? {
            Ok(task) => task,
            Err(why) => {
                mended.trouble(format!("names: {why}"));
                Task::default()
            }
        };
        let now = by == By::Hand;
        let Some(tended) = dns::tend(self, &task, Patience::long(), unwilling, now)? else {
            return Ok(mended);
        };
        let told = |lines: Vec<String>| lines.into_iter().map(|line| format!("names: {line}"));
        mended.done.extend(told(tended.done));
        mended.troubles.extend(told(tended.troubles));
        mended.new.extend(told(tended.new));
        mended.soon = tended.soon;
        Ok(mended)
    }

    /// Its names are all that there may be left of it.
    fn look_at_leftovers(&self, by: By) -> Mended {
        let mut mended = self.untouched();
        mended.done = match by {
            By::Hand => dns::tidy_now(self),
            By::Timer => dns::tidy(self),
        };
        if let Some(left) = dns::leftovers(&self.dns_journal()) {
            mended.troubles.push(dns::note(&left));
        }
        mended
    }
}

fn of_network(lines: Vec<String>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("network: {line}"))
}

/// Puts back what somebody took away of the network of an instance. `None`: somebody is at it, for longer than
/// `patience`, or there is none.
pub(crate) fn network(instance: &Instance, patience: Duration) -> Result<Option<Vec<String>>> {
    let lock = Lock::acquire(&instance.network_lock(), "mend", patience)?;
    let Ok(_lock) = lock else { return Ok(None) };
    let mut network = Network::unattended(instance)?;
    if !network.adopt()? {
        return Ok(None);
    }
    let uplink = instance.server()?.uplink;
    network
        .mend_now(&instance.runtime(), uplink.as_deref())
        .map(Some)
}

/// What should be in the DNS of an instance that runs; what keeps it from being known, in a sentence.
fn task(instance: &Instance) -> Result<std::result::Result<Task, String>> {
    let Look { wanted, report, .. } = instance.look()?;
    let Some(wanted) = wanted else {
        return Ok(Ok(Task::default()));
    };
    let bundle = instance.state_dir().join("bundles").join(&wanted.bundle);
    let manifest = read_manifest(&bundle)?;
    let spec: Option<NetworkSpec> = files::read_json(&instance.run_dir().network())?;
    let (Some(via), Some(spec)) = (&manifest.dns, spec) else {
        return Ok(Ok(Task::default()));
    };
    let registration = Registration::of(via, &spec, &instance.name, &host_label());
    Ok(registration.map(|registration| Task {
        daemons: match &registration {
            Some(_) => watched(&manifest, &wanted, report.as_ref()),
            None => Vec::new(),
        },
        registration,
    }))
}

/// The daemons that have to be healthy for the name of the application: all that should run.
fn watched(manifest: &Manifest, wanted: &Wanted, report: Option<&Report>) -> Vec<Watched> {
    let daemons = manifest.entries.iter().filter(|entry| {
        entry.kind == EntryKind::Daemon && wanted.daemons.contains_key(&entry.name)
    });
    let look = |name: &str| report.and_then(|report| report.entries.get(name));
    // One that is done, and was to end, is no sign of illness.
    let is_done = |known: &EntryReport| {
        known.state == EntryState::Ended
            && !known.last_exit.as_ref().is_some_and(|exit| exit.failed)
    };
    daemons
        .filter(|entry| !look(&entry.name).is_some_and(is_done))
        .map(|entry| {
            let running = look(&entry.name).filter(|known| known.state == EntryState::Running);
            Watched {
                process: running.and_then(|known| known.process.clone()),
                port: entry.port,
                health: entry.health,
                checks: entry.checks.clone(),
            }
        })
        .collect()
}

/// What was said about a network that could not be mended: `<run>/<instance>/mend.told`.
struct Told(std::path::PathBuf);

impl Told {
    fn of(instance: &Instance) -> Told {
        Told(instance.run_dir().0.join("mend.told"))
    }

    /// Whether it was not said at the look before. What cannot be remembered is said again.
    fn is_new(&self, why: &str) -> bool {
        let path: &Path = &self.0;
        let before = files::read(path).ok().flatten();
        let new = before.as_deref() != Some(why.as_bytes());
        if new {
            let _said_again = files::replace(path, why.as_bytes(), 0o644);
        }
        new
    }

    fn forget(&self) {
        let _said_again = files::remove_file(&self.0);
    }
}
