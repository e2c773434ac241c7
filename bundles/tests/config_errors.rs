use metactl_bundles::layers::{LayerKind, Source};
use metactl_bundles::model;
use std::path::PathBuf;
#[test]
fn print() {
    let sources = vec![
        Source {
            layer: LayerKind::App,
            path: PathBuf::from(".metactl"),
            text: include_str!("../testdata/broken/app.metactl").into(),
        },
        Source {
            layer: LayerKind::Local,
            path: PathBuf::from("/etc/metactl/nodes/x.conf"),
            text: "[env]\nDB_PORT = 99999\n[daemon.wb]\nport = 1\n".into(),
        },
    ];
    println!("{}", model::load(sources, "x").unwrap_err());
}
