//! From the text of the layers to the files of a bundle, step by step.

use criterion::{Criterion, criterion_group, criterion_main};
use metactl_benches::sample;
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::view::HostView;
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// A long `.metactl`: many entry points and many accept entries.
fn long_layer() -> String {
    let mut text = sample::app_layer();
    for n in 0..200 {
        text += &format!("far{n} = 10.{}.{}.0/24:{}\n", n / 100, n % 100, 1000 + n);
    }
    for n in 0..20 {
        text += &format!(
            "\n[daemon.worker{n}]\nplatform = exec\ncommand = /app/worker {n} %(HOME_{n})\n"
        );
    }
    text += "\n[env]\n";
    for n in 0..200 {
        text += &format!("HOME_{n} = /somewhere/%(NAME_{n})\nNAME_{n} = name {n}\n");
    }
    text
}

fn source(text: &str) -> Vec<Source> {
    vec![Source::new(
        LayerKind::App,
        PathBuf::from("/bench/.metactl"),
        text.to_owned(),
    )]
}

fn configuration(c: &mut Criterion) {
    let long = long_layer();
    let mut group = c.benchmark_group("configuration");
    group.bench_function("merge two small layers", |b| {
        b.iter(|| black_box(sample::config()).is_ok());
    });
    group.bench_function("merge one long layer", |b| {
        b.iter(|| black_box(Config::from_sources(source(&long))).is_ok());
    });
    match sample::config().and_then(|config| Ok((sample::app(&config, "noop")?, config))) {
        Ok((app, config)) => {
            group.bench_function("build the model", |b| {
                b.iter(|| black_box(sample::app(&config, "noop")).is_ok());
            });
            let place = sample::placement("noop", Path::new("/bench/state"), Path::new("/usr"));
            group.bench_function("look at the host", |b| {
                b.iter(|| black_box(HostView::gather(&app, &place)));
            });
            let host = HostView::gather(&app, &place);
            group.bench_function("compose the bundle", |b| {
                b.iter(|| black_box(sample::compose(&app, &config, &place, &host)).is_ok());
            });
        }
        Err(report) => eprintln!("SKIP model and bundle: {report}"),
    }
    group.finish();
}

criterion_group!(benches, configuration);
criterion_main!(benches);
