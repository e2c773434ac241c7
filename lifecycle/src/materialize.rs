//! From layers of configuration to a bundle on disk, for one instance.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use metactl_bundles::app::App;
use metactl_bundles::bundle::{self, Composition, Placement, Written};
use metactl_bundles::layers::{self, Config, LayerKind, Request, Source};
use metactl_bundles::model;
use metactl_bundles::network::Mode;
use metactl_bundles::paths::Paths;
use metactl_bundles::server::Server;
use metactl_bundles::view::HostView;

use crate::allocation::{self, Allocation, Needs};
use crate::error::{LifecycleError, Result};
use crate::secrets::{self, Set};

/// What an instance is made of.
#[derive(Debug, Clone)]
pub(crate) struct Ingredients<'a> {
    pub(crate) paths: &'a Paths,
    /// The name of the instance.
    pub(crate) instance: &'a str,
    /// The directory of its data and bundles.
    pub(crate) state_dir: PathBuf,
    /// What is shown at `/app`, on the host.
    pub(crate) release: PathBuf,
    /// The name of the release.
    pub(crate) release_id: String,
    /// The text of the local layer that is going to be; `None`: as it is on disk.
    pub(crate) local: Option<String>,
    /// Leave the local layer out: what runs is no instance of this server.
    pub(crate) site_only: bool,
}

/// A configuration that is understood.
#[derive(Debug)]
pub(crate) struct Understood {
    pub(crate) config: Config,
    pub(crate) app: App,
    pub(crate) server: Server,
}

/// A bundle that is complete but for being on disk.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) understood: Understood,
    pub(crate) composition: Composition,
    state_dir: PathBuf,
    secrets: Set,
}

/// The texts of all layers.
pub(crate) fn sources(
    paths: &Paths,
    instance: &str,
    app_layer: Option<&Path>,
    local: Option<&str>,
) -> Result<Vec<Source>> {
    let mut sources = layers::read(
        paths,
        &Request {
            instance,
            app_layer,
        },
    )?;
    if let Some(text) = local {
        let path = paths.local_layer(instance);
        sources.retain(|source| source.layer != LayerKind::Local);
        sources.push(Source::new(LayerKind::Local, path, text.to_owned()));
    }
    Ok(sources)
}

/// What `look` makes of the configuration of each of these instances, as far as it is known without their releases, in
/// the same order. The processors share the work.
pub(crate) fn of_all<T: Send>(
    paths: &Paths,
    names: &[String],
    look: impl Fn(&str, Result<Config>) -> T + Sync,
) -> Vec<T> {
    layers::of_all(paths, &requests(names), |request, sources| {
        let config = sources.and_then(Config::check);
        look(request.instance, config.map_err(LifecycleError::from))
    })
}

/// The same, of those that are right and have a layer whose text `may` matter: to search a text takes less than to
/// understand it.
pub(crate) fn of_some<T: Send>(
    paths: &Paths,
    names: &[String],
    may: impl Fn(&str) -> bool + Sync,
    look: impl Fn(&Config) -> Option<T> + Sync,
) -> Vec<Option<T>> {
    layers::of_all(paths, &requests(names), |_, sources| {
        let sources = sources.ok()?;
        match sources.iter().any(|source| may(&source.text)) {
            true => look(&Config::check(sources).ok()?),
            false => None,
        }
    })
}

fn requests(names: &[String]) -> Vec<Request<'_>> {
    let request = |instance| Request {
        instance,
        app_layer: None,
    };
    names.iter().map(|name| request(name.as_str())).collect()
}

impl Ingredients<'_> {
    /// Reads, merges and understands the configuration. Changes nothing.
    pub(crate) fn understand(&self) -> Result<Understood> {
        let app_layer = self.release.join(crate::release::APP_LAYER);
        let mut sources = sources(
            self.paths,
            self.instance,
            Some(&app_layer),
            self.local.as_deref(),
        )?;
        sources.retain(|source| !self.site_only || source.layer != LayerKind::Local);
        let (config, app) = model::load(sources, self.instance)?;
        if app.daemons.is_empty() && app.cron.is_empty() {
            return Err(LifecycleError::Setting {
                what: format!(
                    "there is nothing to run: {} has neither a daemon nor a cron job",
                    self.instance
                ),
                hint: format!(
                    "put a {} with [daemon.NAME] at the top of the repository",
                    crate::release::APP_LAYER
                ),
            });
        }
        crate::cron::check_zone(&app)?;
        let server = Server::read(self.paths)?;
        Ok(Understood {
            config,
            app,
            server,
        })
    }

    /// Allocates what is missing, and composes the bundle.
    pub(crate) fn compose(&self, understood: Understood) -> Result<Ready> {
        self.compose_as(understood, self.instance)
    }

    /// The same, with another name for the sandbox: its cgroup, its devices.
    pub(crate) fn compose_as(&self, mut understood: Understood, sandbox: &str) -> Result<Ready> {
        let values = metactl_bundles::secrets::read(&mut understood.app, &understood.config)?;
        let Understood {
            config,
            app,
            server,
        } = &understood;
        let net = &app.sandbox.net;
        let from_pool = net.mode == Mode::Nat && net.addresses.is_empty();
        let needs = Needs {
            dir: &self.state_dir,
            account: app.sandbox.user.as_deref(),
            address: from_pool,
        };
        let allocation = allocation::allocate(self.paths, server, needs)?;
        let secrets = Set::of(&self.state_dir, (allocation.uid, allocation.gid), values)?;
        let mut place = self.placement(app, server, &allocation, sandbox)?;
        place.secrets = secrets.dir().to_owned();
        let host = HostView::gather(app, &place);
        let composition = bundle::compose(app, config, &place, &host)?;
        Ok(Ready {
            composition,
            state_dir: self.state_dir.clone(),
            secrets,
            understood,
        })
    }

    fn placement(
        &self,
        app: &App,
        server: &Server,
        allocation: &Allocation,
        sandbox: &str,
    ) -> Result<Placement> {
        let net = &app.sandbox.net;
        let given = allocation.address.map(IpAddr::V4);
        let given6 = allocation.address6.map(IpAddr::V6);
        let own = given.filter(|_| net.mode == Mode::Nat && net.addresses.is_empty());
        let addresses = match own {
            Some(own) => std::iter::once(own).chain(given6).collect(),
            None => net.addresses.clone(),
        };
        Ok(Placement {
            instance: sandbox.to_owned(),
            state_dir: self.state_dir.clone(),
            release: self.release.clone(),
            release_id: self.release_id.clone(),
            uid: allocation.uid,
            gid: allocation.gid,
            addresses,
            pool: (net.mode == Mode::Nat).then(|| server.pool.into()),
            pool6: server
                .pool6
                .filter(|_| net.mode == Mode::Nat)
                .map(Into::into),
            hostname: self.instance.to_owned(),
            nameservers: allocation::nameservers(server)?,
            site: server.site.clone(),
            secrets: secrets::dir(&self.state_dir),
        })
    }
}

impl Ready {
    /// Writes the bundle; nothing changes when that fails. It does not count yet.
    pub(crate) fn write(&self) -> Result<Written> {
        let is_new = self.secrets.write()?;
        bundle::write(&self.composition, &self.state_dir).map_err(|error| {
            if is_new {
                self.secrets.undo();
            }
            error.into()
        })
    }

    /// What is worth knowing, but stops nothing.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.understood
            .config
            .warnings()
            .iter()
            .map(|found| found.render(false))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_with_nothing_to_run_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let release = root.path().join("release");
        std::fs::create_dir(&release).unwrap();
        let ingredients = Ingredients {
            paths: &paths,
            instance: "hello",
            state_dir: paths.instance_state("hello"),
            release,
            release_id: "1".to_owned(),
            local: None,
            site_only: false,
        };
        let error = ingredients.understand().unwrap_err();
        assert_eq!(error.class().code(), 78, "{error}");
        assert!(error.to_string().starts_with("there is nothing to run"));
        assert!(error.hint().unwrap().contains("[daemon.NAME]"));
    }
}
