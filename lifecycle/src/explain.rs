//! Questions about configuration: nothing here changes anything.

use std::net::IpAddr;
use std::path::Path;

use metactl_bundles::app::App;
use metactl_bundles::bundle::{self, Placement};
use metactl_bundles::check::{self, Checked};
use metactl_bundles::compare::{self, Comparison};
use metactl_bundles::layers::{self, Config, LayerKind, Source};
use metactl_bundles::model;
use metactl_bundles::network::{Entry, NetworkSpec};
use metactl_bundles::platforms::APP_DIR;
use metactl_bundles::view::{Access, HostView};
use metactl_bundles::why::network::{Direction, Network, Resolved};
use metactl_bundles::why::path::{self, Seen};
use metactl_bundles::why::{self, Answer, Because, Question, Verdict};
use metactl_netns::names::resolve;

use crate::edit::layer::glanced_app_layer;
use crate::error::{LifecycleError, Result};
use crate::instance::{Current, Instance};
use crate::manager::Manager;
use crate::release::APP_LAYER;
use crate::{allocation, files, materialize, names};

/// The name of a release before there is one; none of metactl's begins so.
const NO_RELEASE: &str = "-";

impl Manager {
    /// Judges an application's repository on its own, or with the layers of a site. Needs neither
    /// root nor an instance.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn check(&self, request: &check::Request<'_>) -> Result<Checked> {
        Ok(check::check(&self.paths, request)?)
    }

    /// What differs between two sites for an application; with the app layer of the release in use
    /// when it is an instance of this server, else from the layers of the sites alone.
    ///
    /// # Errors
    /// A site that there is not, and everything that is wrong in the layers.
    pub fn compare(&self, app: &str, left: &str, right: &str) -> Result<Comparison> {
        names::check(app)?;
        let (name, layer) = match self.instance(app) {
            Ok(instance) => instance.identity()?,
            Err(unknown @ LifecycleError::UnknownInstance { .. }) => {
                let has_file = |site: &&str| self.paths.site_layers(site, app)[1].is_file();
                if ![left, right].iter().any(has_file) {
                    return Err(unknown);
                }
                (app.to_owned(), None)
            }
            Err(error) => return Err(error),
        };
        let side = |site: &str| -> Result<Vec<Source>> {
            let mut sources: Vec<Source> = layer.iter().cloned().collect();
            sources.extend(check::site_layers(&self.paths, site, &name)?);
            Ok(sources)
        };
        Ok(compare::compare(side(left)?, side(right)?)?)
    }
}

impl Instance {
    /// Whether it may reach, see or have something, and which line says so. `direction` is for
    /// destinations: `None` lets the question decide what it is about, `Some` makes it one.
    ///
    /// Before the first deployment the answer is that of the configuration as far as it is known, and says so.
    ///
    /// # Errors
    /// A question that cannot be understood; layers that are wrong.
    pub fn why(&self, text: &str, direction: Option<Direction>) -> Result<(Question, Answer)> {
        let current = self.current()?;
        let (config, app) = self.understood(current.as_ref())?;
        let question = match direction {
            Some(_) => why::destination(text).map(Question::Destination),
            None => Question::understand(&config, text),
        };
        let question = question.map_err(LifecycleError::Question)?;
        let mut answer = match &question {
            Question::Key(selector) => why::key::answer(&config, selector),
            Question::Path(path) => self.why_path(&config, &app, current.as_ref(), path)?,
            Question::Destination(asked) => {
                let addresses = addresses(&app, current.as_ref())?;
                let direction = direction.unwrap_or(Direction::Out);
                why_network(&config, &app, &addresses, asked, direction)
            }
        };
        let knows = |source: &Source| source.layer == LayerKind::App;
        if current.is_none() && !config.sources().iter().any(knows) {
            answer.because.push(note(format!(
                "what the application itself says is not known yet: metactl {} deploy --dry-run fetches it",
                self.name
            )));
        }
        Ok((question, answer))
    }

    /// Configuration and model; before the first deployment as far as they can be known.
    fn understood(&self, current: Option<&Current>) -> Result<(Config, App)> {
        let layer = current.map(|current| current.manifest.release_path.join(APP_LAYER));
        let paths = &self.manager.paths;
        let mut sources = materialize::sources(paths, &self.name, layer.as_deref(), None)?;
        if layer.is_some() {
            return Ok(model::load(sources, &self.name)?);
        }
        sources.extend(glanced_app_layer(self));
        Ok(model::check(sources, &self.name)?)
    }

    fn why_path(
        &self,
        config: &Config,
        app: &App,
        current: Option<&Current>,
        path: &Path,
    ) -> Result<Answer> {
        let server = self.server()?;
        let state_dir = self.state_dir();
        let mut place = Placement {
            instance: self.name.clone(),
            release: state_dir.join("releases").join(NO_RELEASE),
            release_id: NO_RELEASE.to_owned(),
            // Nobody has it yet, and which one it is makes no difference to what is seen.
            uid: *server.uid_range.start(),
            gid: *server.uid_range.start(),
            addresses: addresses(app, current)?,
            pool: None,
            pool6: None,
            hostname: self.name.clone(),
            nameservers: allocation::nameservers(&server)?,
            site: server.site.clone(),
            secrets: crate::secrets::dir(&state_dir),
            state_dir,
        };
        if let Some(Current { manifest, .. }) = current {
            place.release = manifest.release_path.clone();
            place.release_id = manifest.release.clone();
            (place.uid, place.gid) = (manifest.uid, manifest.gid);
            place.hostname = manifest.hostname.clone();
            place.site = manifest.site.clone();
        }
        let mut host = HostView::gather(app, &place);
        if current.is_none() {
            // What is in a release that is not there yet is for the deployment to judge.
            host.release = Access::Open;
            host.release_lacks.clear();
            host.release_is_webapp = true;
        }
        let view = bundle::view(app, config, &place, &host)?;
        let seen = Seen {
            config,
            app,
            view: &view,
        };
        let mut answer = seen.answer(&path::Server, path);
        if current.is_none() && path.starts_with(APP_DIR) {
            let text = format!("nothing is deployed yet: metactl {} deploy", self.name);
            answer.because.push(note(text));
        }
        Ok(answer)
    }

    /// The name of the application, which decides the site's file, and the app layer of the release
    /// in use, or of its repository before there is one.
    fn identity(&self) -> Result<(String, Option<Source>)> {
        let current = self.current()?;
        let file = current.map(|current| current.manifest.release_path.join(APP_LAYER));
        let request = layers::Request {
            instance: &self.name,
            app_layer: file.as_deref(),
        };
        let mut sources = layers::read(&self.manager.paths, &request)?;
        if file.is_none() {
            sources.extend(glanced_app_layer(self));
        }
        let name = layers::site_name(&sources, &self.name);
        let app = sources
            .into_iter()
            .find(|source| source.layer == LayerKind::App);
        Ok((name, app))
    }
}

/// What is worth knowing beside the reasons.
fn note(text: String) -> Because {
    Because {
        origin: None,
        text,
        names: Vec::new(),
    }
}

/// First without asking a name server: most answers do not depend on addresses.
fn why_network(
    config: &Config,
    app: &App,
    addresses: &[IpAddr],
    asked: &Entry,
    direction: Direction,
) -> Answer {
    let unknown = Resolved::new();
    let mut network = Network {
        config,
        app,
        addresses,
        resolved: &unknown,
    };
    let answer = network.answer(asked, direction);
    let names = network.names(asked, direction);
    let enough = answer.verdict == Verdict::Yes && !network.addresses_may_reject(asked, direction);
    if enough || names.is_empty() {
        return answer;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let resolved: Resolved = resolve(&names).0.into_iter().collect();
    network.resolved = &resolved;
    network.answer(asked, direction)
}

/// The addresses of an instance: its own, or the one that it got from the pool.
fn addresses(app: &App, current: Option<&Current>) -> Result<Vec<IpAddr>> {
    if !app.sandbox.net.addresses.is_empty() {
        return Ok(app.sandbox.net.addresses.clone());
    }
    let Some(current) = current else {
        return Ok(Vec::new());
    };
    let spec = files::read_json::<NetworkSpec>(&current.dir.join("network.json"))?;
    Ok(spec.map(|spec| spec.addresses).unwrap_or_default())
}
