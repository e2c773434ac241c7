//! `new`: the local layer of an instance, with what can be found out.
//!
//! The repository is fetched into the cache and its `.metactl` is read; nothing of it is executed. One file
//! is written, last, and only when the configuration with it is whole.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use metactl_bundles::diagnostics::Report;
use metactl_bundles::edit::{self, Wish};
use metactl_bundles::keys::values;
use metactl_bundles::layers::{Config, Denied, Needed, Source};
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_bundles::server::Server;

use crate::edit::layer::{self, app_source, check_early};
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::Instance;
use crate::manager::{Manager, has_state, require_root};
use crate::progress::Progress;
use crate::release::APP_LAYER;
use crate::scm::{self, Revision, Settings};
use crate::{allocation, conflicts, files, materialize, names};

/// How many of the newest tags are looked at for one that can be deployed.
const NEWEST: usize = 20;
/// How many addresses are probed on the network before giving up.
const PROBES: usize = 16;

/// Something that the application runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPoint {
    /// Its name.
    pub name: String,
    /// What starts it; `None` for a cron job.
    pub platform: Option<String>,
}

/// A new instance.
#[derive(Debug, Clone)]
pub struct Created {
    /// The local layer.
    pub file: PathBuf,
    /// Where the source is, without its password.
    pub repo: Option<String>,
    /// The tag or branch that will be deployed.
    pub tag: Option<String>,
    /// Whether the repository has a `.metactl` there.
    pub has_layer: bool,
    /// What the application runs.
    pub entries: Vec<EntryPoint>,
    /// The address that was found for it.
    pub address: Option<IpAddr>,
    /// Ports that were changed because somebody has them: the daemon, its port before and now.
    pub ports: Vec<(String, u16, u16)>,
    /// Names that have to be defined.
    pub needed: Vec<Needed>,
    /// What the application asks for and nobody granted.
    pub requests: Vec<Denied>,
    /// Whether there are data of an instance of this name already.
    pub has_data: bool,
    /// Whether an address is missing for `mode = routed`.
    pub lacks_address: bool,
    /// What is worth knowing, but stops nothing.
    pub warnings: Vec<String>,
}

impl Manager {
    /// Makes an instance: writes its local layer. Without `repo` the site may say where the source is.
    ///
    /// # Errors
    /// A name that cannot be one or is taken, a repository that cannot be fetched, and everything that is
    /// wrong with the configuration: then nothing has changed but the cache.
    pub fn create(
        &self,
        name: &str,
        repo: Option<&str>,
        tag: Option<&str>,
        progress: &mut dyn Progress,
    ) -> Result<Created> {
        require_root("making an instance")?;
        names::check(name)?;
        let instance = Instance {
            manager: self.clone(),
            name: name.to_owned(),
        };
        let _lock = instance.lock("new")?;
        refuse_existing(&instance)?;
        let mut creation = Creation::begin(&instance, repo, tag)?;
        creation.look_into_the_source(progress)?;
        let config = creation.check()?;
        creation.find_address(&config)?;
        creation.find_ports(&config)?;
        let config = creation.check()?;
        layer::write(&creation.file, &creation.text)?;
        creation.finish(&config)
    }
}

fn refuse_existing(instance: &Instance) -> Result<()> {
    let file = instance.manager.paths.local_layer(&instance.name);
    let name = &instance.name;
    let what = match file.symlink_metadata() {
        Ok(_) => format!("{} is there", file.display()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).on("look at", &file);
        }
        Err(_) if has_state(&instance.state_dir()) => {
            format!("{} is there", instance.state_dir().display())
        }
        Err(_) => return Ok(()),
    };
    Err(LifecycleError::Exists {
        name: name.clone(),
        what,
        hint: format!("metactl {name} says what it is; metactl {name} delete removes it"),
    })
}

/// An instance on its way.
struct Creation<'a> {
    instance: &'a Instance,
    server: Server,
    file: PathBuf,
    /// The local layer as it is going to be.
    text: String,
    /// The repository, when anything names one.
    source: Option<scm::Source>,
    /// What was asked for, or what a layer says.
    tag: Option<String>,
    /// Whether the tag has to be written.
    own_tag: bool,
    app: Option<Source>,
    address: Option<IpAddr>,
    lacks_address: bool,
    ports: Vec<(String, u16, u16)>,
}

impl<'a> Creation<'a> {
    fn begin(
        instance: &'a Instance,
        repo: Option<&str>,
        tag: Option<&str>,
    ) -> Result<Creation<'a>> {
        let paths = &instance.manager.paths;
        let file = paths.local_layer(&instance.name);
        let mut creation = Creation {
            instance,
            server: Server::read(paths)?,
            text: format!(
                "# What is special about {} on this server.\n",
                instance.name
            ),
            file,
            source: None,
            tag: tag.map(str::to_owned),
            own_tag: tag.is_some(),
            app: None,
            address: None,
            lacks_address: false,
            ports: Vec::new(),
        };
        let site = crate::deploy::first_config(instance)?;
        let said = |key: &str| site.get("build", key).map(|value| value.text.to_string());
        let repo = match repo {
            Some(repo) => {
                let repo = usable(repo)?;
                creation.say("build", "repo", &repo)?;
                Some(repo)
            }
            None => said("repo"),
        };
        // What a command fetches is not there before it has run.
        let repo = repo.filter(|_| said("fetch").is_none());
        creation.source = repo
            .map(|repo| scm::open(&Settings::of(&site, &repo), &paths.cache))
            .transpose()?;
        if creation.tag.is_none() {
            creation.tag = said("tag");
        }
        Ok(creation)
    }

    fn say(&mut self, section: &str, key: &str, value: &str) -> Result<()> {
        let edited = edit::edit(&self.file, &self.text, section, key, Wish::Say(value))?;
        self.text = edited.text;
        Ok(())
    }

    /// Fetches, and reads the application's layer.
    fn look_into_the_source(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let Some(source) = &self.source else {
            return Ok(());
        };
        progress.begin("fetch", &source.shown());
        if !source.needs_tag() {
            let revision = source.fetch(self.tag.as_deref().unwrap_or_default())?;
            self.app = read_layer(source, &revision)?;
            progress.end(true, "");
            return Ok(());
        }
        let (tag, found) = match self.tag.clone() {
            Some(tag) => (tag, false),
            None => (newest(source)?, true),
        };
        let revision = source.fetch(&tag)?;
        self.app = read_layer(source, &revision)?;
        progress.end(true, &format!("{tag} ({})", revision.short()));
        if found || self.own_tag {
            self.say("build", "tag", &tag)?;
        }
        self.tag = Some(tag);
        Ok(())
    }

    /// The configuration as it would be.
    fn check(&self) -> Result<Config> {
        let paths = &self.instance.manager.paths;
        let name = &self.instance.name;
        let mut sources = materialize::sources(paths, name, None, Some(&self.text))?;
        sources.extend(self.app.clone());
        check_early(sources, name)
    }

    /// For `mode = routed` without an address: a free one of the pool, when `metactl.conf` has one. (The
    /// built-in pool is for addresses that nobody else ever sees.)
    fn find_address(&mut self, config: &Config) -> Result<()> {
        let net = |key: &str| {
            config
                .get("sandbox.net", key)
                .map(|value| value.text.as_str())
        };
        if net("mode") != Some("routed") || net("ip").is_some() {
            return Ok(());
        }
        if self.server.pool == Server::default().pool {
            self.lacks_address = true;
            return Ok(());
        }
        let paths = &self.instance.manager.paths;
        let taken = allocation::taken_addresses(paths, &self.instance.state_dir())?;
        let hosts = self.server.pool.hosts().skip(1);
        let mut free = hosts.filter(|address: &Ipv4Addr| !taken.contains(address));
        for address in free.by_ref().take(PROBES) {
            let address = IpAddr::V4(address);
            if conflicts::holder(&self.server, address)?.is_none() {
                self.say("sandbox.net", "ip", &address.to_string())?;
                self.address = Some(address);
                return Ok(());
            }
        }
        Err(LifecycleError::UsedUp {
            what: format!("the pool of addresses {}", self.server.pool),
            hint: "metactl.conf: [server] pool = a larger one, or one whose addresses nobody has"
                .to_owned(),
        })
    }

    /// With the server's own network: a free port for every daemon whose port somebody has.
    fn find_ports(&mut self, config: &Config) -> Result<()> {
        let mode = config
            .get("sandbox.net", "mode")
            .map(|value| value.text.clone());
        if mode.as_deref() != Some("host") {
            return Ok(());
        }
        let mut taken = self.ports_of_others()?;
        let sections: Vec<String> = config.sections().map(str::to_owned).collect();
        for section in sections.iter().filter(|name| name.starts_with("daemon.")) {
            let port = config.get(section, "port");
            let Some(port) = port.and_then(|port| port.text.parse::<u16>().ok()) else {
                continue;
            };
            let is_free = |port: &u16| {
                !taken.contains(port)
                    && TcpListener::bind(SocketAddr::from(([0; 4], *port))).is_ok()
            };
            // A privileged port that is taken is not followed by one that nobody expects.
            let others = (port.max(1023).saturating_add(1)..=u16::MAX).find(is_free);
            let free = if is_free(&port) { Some(port) } else { others };
            let free = free.ok_or_else(|| LifecycleError::UsedUp {
                what: "the range of TCP ports".to_owned(),
                hint: "leave out [sandbox.net] mode = host for ports of its own".to_owned(),
            })?;
            taken.insert(free);
            if free != port {
                self.say(section, "port", &free.to_string())?;
                self.ports.push((section.clone(), port, free));
            }
        }
        Ok(())
    }

    /// The ports of all instances that are in the server's own network, also of those that are stopped.
    fn ports_of_others(&self) -> Result<BTreeSet<u16>> {
        let mut taken = BTreeSet::new();
        for dir in allocation::state_dirs(&self.instance.manager.paths)? {
            let bundle = dir.join("bundle");
            let spec: Result<Option<NetworkSpec>> = files::read_json(&bundle.join("network.json"));
            // A record that cannot be read is its owner's problem.
            let is_host = spec.is_ok_and(|spec| spec.is_some_and(|spec| spec.mode == Mode::Host));
            if let (true, Ok(manifest)) = (is_host, metactl_bundles::bundle::read_manifest(&bundle))
            {
                taken.extend(manifest.entries.iter().filter_map(|entry| entry.port));
            }
        }
        Ok(taken)
    }

    fn finish(self, config: &Config) -> Result<Created> {
        let paths = &self.instance.manager.paths;
        let subject = format!("{}: new", self.instance.name);
        let mut warnings: Vec<String> = config
            .warnings()
            .iter()
            .map(|found| found.render(false))
            .collect();
        warnings.extend(crate::edit::history::commit(
            &paths.config,
            &self.file,
            &subject,
        ));
        let mode = config
            .get("sandbox.net", "mode")
            .map(|value| value.text.as_str());
        if !matches!(mode, Some("none" | "host")) {
            warnings.extend(crate::doctor::warnings(&self.server));
        }
        let lost = self.instance.manager.lost_site(&self.server);
        warnings.extend(lost.map(|found| format!("{}; {}", found.what, found.lasting)));
        Ok(Created {
            repo: self.source.as_ref().map(scm::Source::shown),
            tag: self.tag,
            has_layer: self.app.is_some(),
            entries: entry_points(config),
            address: self.address,
            ports: self.ports,
            needed: config.needed().to_vec(),
            requests: config.requests().to_vec(),
            has_data: self.instance.state_dir().join("data").is_dir(),
            lacks_address: self.lacks_address,
            warnings,
            file: self.file,
        })
    }
}

/// A repository as it can be written down: a folder by its full path.
fn usable(repo: &str) -> Result<String> {
    let folder = !repo.contains("://") && std::path::Path::new(repo).is_dir();
    let repo = match folder {
        true => {
            let path = std::path::absolute(repo).on("find", repo.as_ref())?;
            path.to_string_lossy().into_owned()
        }
        false => repo.to_owned(),
    };
    match values::repository(&repo) {
        Ok(_) => Ok(repo),
        Err(problem) => Err(LifecycleError::Edit {
            what: format!("the repository {problem}"),
            hint: "metactl new APP https://git.example.org/app.git, or the path of a folder"
                .to_owned(),
        }),
    }
}

/// The newest tag that can be deployed, else the branch that `HEAD` leads to.
fn newest(source: &scm::Source) -> Result<String> {
    let tags = source.fetch_tags(NEWEST)?;
    if let Some(tag) = tags.into_iter().find(|tag| values::tag(tag).is_ok()) {
        return Ok(tag);
    }
    source
        .default_branch()?
        .ok_or_else(|| LifecycleError::Source {
            action: "find a tag or a branch in".to_owned(),
            repo: source.shown(),
            why: "it is empty".to_owned(),
            hint: "commit something, then try again".to_owned(),
        })
}

fn read_layer(source: &scm::Source, revision: &Revision) -> Result<Option<Source>> {
    let Some(bytes) = source.file(revision, APP_LAYER)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        let message = format!("{APP_LAYER}:{line} at {} is not UTF-8", revision.tag);
        let fault = metactl_bundles::diagnostics::Diagnostic::error(message);
        Report::from(fault.hint("save the file as UTF-8"))
    })?;
    Ok(Some(app_source(text)))
}

/// What the configuration runs.
fn entry_points(config: &Config) -> Vec<EntryPoint> {
    let mut entries = Vec::new();
    for section in config.sections() {
        if let Some(name) = section.strip_prefix("daemon.").filter(|name| *name != "*") {
            let platform = config.get(section, "platform");
            entries.push(EntryPoint {
                name: name.to_owned(),
                platform: platform.map(|value| value.text.to_string()),
            });
        }
    }
    for (name, _) in config.section("crontab").into_iter().flatten() {
        entries.push(EntryPoint {
            name: name.to_owned(),
            platform: None,
        });
    }
    entries
}
