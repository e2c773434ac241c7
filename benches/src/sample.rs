//! The configuration that is measured with.

use metactl_bundles::app::App;
use metactl_bundles::bundle::{self, Composition, Placement};
use metactl_bundles::diagnostics::Report;
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;
use metactl_bundles::view::HostView;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The address of the sandbox: of a range that is for examples only (RFC 5737).
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77));

/// How many outbound connections are accepted.
pub const ACCEPTED: u8 = 10;

/// An application of one program that does nothing.
pub fn app_layer() -> String {
    let mut text = "[app]\nname = noop\n\n[daemon.noop]\nplatform = exec\ncommand = /app/noop\n\n\
                    [sandbox.limits]\nmemory = 64m\npids = 32\n\n[firewall.out]\npolicy = reject\n\n\
                    [firewall.out.accept]\n"
        .to_owned();
    for n in 1..=ACCEPTED {
        text += &format!("peer{n} = 10.1.{n}.{n}:{}/tcp\n", 3000 + u16::from(n));
    }
    text
}

/// What a server adds: an address of its own for the instance.
pub fn local_layer() -> String {
    format!("[sandbox.net]\nmode = routed\nip = {ADDRESS}\n")
}

/// The layers, read and merged.
///
/// # Errors
/// What is wrong in them.
pub fn config() -> Result<Config, Report> {
    let source = |layer, path: &str, text| Source::new(layer, PathBuf::from(path), text);
    Config::from_sources(vec![
        source(LayerKind::App, "/bench/.metactl", app_layer()),
        source(LayerKind::Local, "/bench/nodes/noop.conf", local_layer()),
    ])
}

/// The application.
///
/// # Errors
/// What is wrong in its configuration.
pub fn app(config: &Config, instance: &str) -> Result<App, Report> {
    model::build(config, instance)
}

/// Where it is on this machine.
pub fn placement(instance: &str, state: &Path, release: &Path) -> Placement {
    Placement {
        instance: instance.to_owned(),
        state_dir: state.to_owned(),
        release: release.to_owned(),
        release_id: "1".to_owned(),
        uid: 66_123,
        gid: 66_123,
        addresses: vec![ADDRESS],
        pool: None,
        pool6: None,
        hostname: instance.to_owned(),
        nameservers: Vec::new(),
        site: None,
        secrets: state.join("secrets/1"),
    }
}

/// Everything from text to the files of a bundle.
///
/// # Errors
/// Whatever went wrong, as text.
pub fn compose(
    app: &App,
    config: &Config,
    place: &Placement,
    host: &HostView,
) -> Result<Composition, String> {
    bundle::compose(app, config, place, host).map_err(|error| error.to_string())
}
