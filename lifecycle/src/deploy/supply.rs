//! What is deployed: one or several sources, or what a command fetches.

use std::collections::BTreeMap;
use std::path::Path;

use metactl_bundles::app::App;
use metactl_bundles::layers::Config;
use metactl_bundles::model;
use metactl_bundles::redact::redact;

use crate::build::{Job, Workshop};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::materialize::{self, Understood};
use crate::progress::Progress;
use crate::release::APP_LAYER;
use crate::scm::{self, Revision, Settings, Source, folder};

/// How many tags are named when none was.
const NEWEST: usize = 5;

/// Where the source of an instance comes from.
pub(super) struct Supply {
    main: Main,
    /// Further repositories, by their folder, each with the tag that is wanted of it.
    more: BTreeMap<String, (Source, String)>,
}

enum Main {
    Source(Source),
    /// A command, and the repository that it is told of.
    Command {
        command: String,
        repo: String,
    },
}

/// What was found.
pub(super) struct Found {
    pub(super) revision: Revision,
    more: BTreeMap<String, Revision>,
}

impl Supply {
    /// As the configuration says.
    pub(super) fn of(instance: &Instance, config: &Config) -> Result<Supply> {
        let paths = &instance.manager.paths;
        let value = |key: &str| config.get("build", key).map(|value| value.text.to_string());
        let open = |repo: &str| scm::open(&Settings::of(config, repo), &paths.cache);
        let repo = value("repo");
        let main = match (value("fetch"), &repo) {
            (Some(command), repo) => Main::Command {
                command,
                repo: repo.clone().unwrap_or_default(),
            },
            (None, Some(repo)) => Main::Source(open(repo)?),
            (None, None) => {
                return Err(LifecycleError::Setting {
                    what: format!("nothing says where the source of {} is", instance.name),
                    hint: format!(
                        "{}: [build] repo = URL or path",
                        paths.local_layer(&instance.name).display()
                    ),
                });
            }
        };
        let mut more = BTreeMap::new();
        for (key, value) in config.section("build").into_iter().flatten() {
            let Some(name) = key.strip_prefix("repo.") else {
                continue;
            };
            let source = open(&value.text)?;
            let tag = config.get("build", &format!("tag.{name}"));
            let tag = tag.map(|tag| tag.text.to_string());
            let tag = match (tag, source.needs_tag()) {
                (Some(tag), _) => tag,
                (None, false) => String::new(),
                (None, true) => {
                    return Err(LifecycleError::Setting {
                        what: format!("nothing says which tag of {key} is wanted"),
                        hint: format!("[build] tag.{name} = TAG"),
                    });
                }
            };
            more.insert(name.to_owned(), (source, tag));
        }
        Ok(Supply { main, more })
    }

    /// Without passwords.
    pub(super) fn shown(&self) -> String {
        match &self.main {
            Main::Source(source) => source.shown(),
            Main::Command { command, .. } => redact(command).into_owned(),
        }
    }

    /// The tag that is wanted: the one named, else the configured one; empty where there are none.
    pub(super) fn wanted(
        &self,
        instance: &Instance,
        named: Option<&str>,
        configured: Option<&str>,
    ) -> Result<String> {
        if let Some(tag) = named {
            return Ok(tag.to_owned());
        }
        let Main::Source(source) = &self.main else {
            return Ok(configured.unwrap_or_default().to_owned());
        };
        match configured {
            _ if !source.needs_tag() => Ok(String::new()),
            Some(tag) => Ok(tag.to_owned()),
            None => {
                let known = source.fetch_tags(NEWEST)?;
                Err(LifecycleError::Setting {
                    what: format!("nothing says which tag of {} to deploy", source.shown()),
                    hint: format!(
                        "metactl {} deploy TAG, or [build] tag = TAG; the newest tags are: {}",
                        instance.name,
                        known.join(", ")
                    ),
                })
            }
        }
    }

    /// Whether only what somebody has signed is built.
    pub(super) fn wants_signature(&self) -> bool {
        let main = match &self.main {
            Main::Source(source) => source.wants_signature(),
            Main::Command { .. } => false,
        };
        main || self
            .more
            .values()
            .any(|(source, _)| source.wants_signature())
    }

    /// Finds what `tag` names. What a command fetches is in the checkout then.
    pub(super) fn fetch(
        &self,
        instance: &Instance,
        tag: &str,
        workshop: &Workshop,
        log: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Found> {
        let revision = match &self.main {
            Main::Source(source) => source.fetch(tag)?,
            Main::Command { command, repo } => {
                self.run(instance, (command, repo, tag), workshop, log, progress)?
            }
        };
        let mut more = BTreeMap::new();
        for (name, (source, tag)) in &self.more {
            more.insert(name.clone(), source.fetch(tag)?);
        }
        Ok(Found { revision, more })
    }

    fn run(
        &self,
        instance: &Instance,
        (command, repo, tag): (&str, &str, &str),
        workshop: &Workshop,
        log: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Revision> {
        workshop.clear_container()?;
        let src = workshop.fresh_checkout()?;
        let understood = without_app_layer(instance)?;
        let variables = [("METACTL_TAG", tag), ("METACTL_REPO", repo)];
        let origin = understood.config.get("build", "fetch");
        let job = Job {
            command: command.to_owned(),
            origin: origin.map(|value| value.origin.to_string()),
            env: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            verbose: false,
        };
        workshop.run(&understood, &job, log, progress)?;
        Ok(Revision {
            tag: match tag {
                "" => "latest".to_owned(),
                tag => tag.to_owned(),
            },
            commit: folder::digest(&src)?,
            is_tag: !tag.is_empty(),
        })
    }

    /// Writes everything that was found into the checkout.
    pub(super) fn checkout(&self, found: &Found, workshop: &Workshop) -> Result<()> {
        let src = match &self.main {
            Main::Source(source) => {
                let src = workshop.fresh_checkout()?;
                source.checkout(&found.revision, &src)?;
                src
            }
            Main::Command { .. } => workshop.src(),
        };
        for (name, (source, _)) in &self.more {
            let Some(revision) = found.more.get(name) else {
                continue;
            };
            let dir = src.join(name);
            if dir.symlink_metadata().is_ok() {
                return Err(LifecycleError::Source {
                    action: "check out".to_owned(),
                    repo: source.shown(),
                    why: format!(
                        "there is something called {name} in {} already",
                        self.shown()
                    ),
                    hint: format!("choose another name for [build] repo.{name}"),
                });
            }
            files::make_dir(&dir, 0o755)?;
            source.checkout(revision, &dir)?;
        }
        Ok(())
    }

    /// What else was found, for people.
    pub(super) fn others(&self, found: &Found) -> Vec<String> {
        let line = |(name, revision): (&String, &Revision)| {
            format!("{name}: {} ({})", revision.tag, revision.short())
        };
        found.more.iter().map(line).collect()
    }

    /// The application's layer. From git it is the commit's; what the checkout has in its place must
    /// be a plain file, because that is what is read.
    pub(super) fn app_layer(&self, found: &Found, src: &Path) -> Result<Option<Vec<u8>>> {
        let text = match &self.main {
            Main::Source(source @ Source::Git(_)) => source.file(&found.revision, APP_LAYER)?,
            _ => folder::plain_file(src, APP_LAYER)?,
        };
        let path = src.join(APP_LAYER);
        if text.is_none() && path.symlink_metadata().is_ok() {
            return Err(LifecycleError::Release {
                what: format!("{APP_LAYER} is no plain file"),
                hint: format!(
                    "put the file itself into the repository, at {}",
                    found.revision.tag
                ),
            });
        }
        // Only root's until it is built: it was written by whoever fetched.
        if text.is_some() {
            std::os::unix::fs::lchown(&path, Some(0), Some(0)).on("own", &path)?;
        }
        Ok(text)
    }
}

/// The configuration as far as it is known before the source is there.
fn without_app_layer(instance: &Instance) -> Result<Understood> {
    let paths = &instance.manager.paths;
    let sources = materialize::sources(paths, &instance.name, None, None)?;
    let (config, app): (Config, App) = model::check(sources, &instance.name)?;
    Ok(Understood {
        config,
        app,
        server: instance.server()?,
    })
}
