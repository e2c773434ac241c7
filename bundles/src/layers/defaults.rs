//! What is built in for keys that no layer sets: made of the table once, and shared by all instances.

use std::sync::LazyLock;

use super::Origin;
use super::config::{Entry, Value};
use crate::keys::{self, Key, Spec};
use crate::maps::List;
use crate::platforms::{PLATFORMS, Platform};
use crate::text::Str;

/// The section of which `mode` depends on another key.
const NET: &str = "sandbox.net";

/// For what has none.
pub(super) static NONE: LazyLock<List<Entry>> = LazyLock::new(List::default);

/// The defaults of each section, by its rank. Of `[daemon.*]`: those of a daemon whose platform is not
/// known.
static OF_SECTIONS: LazyLock<Vec<List<Entry>>> = LazyLock::new(|| {
    let of = |spec: &'static keys::Rows| match spec.name {
        NET => of_net("nat"),
        _ => rows(spec).collect(),
    };
    keys::specs().iter().map(of).collect()
});

/// Those of `[sandbox.net]` with an address.
static WITH_ADDRESS: LazyLock<List<Entry>> = LazyLock::new(|| of_net("routed"));

/// The defaults of daemons of a platform: those of what `port` and `health` of [`Platform`] are about, and of
/// others.
struct OfPlatform {
    name: &'static str,
    web: List<Entry>,
    other: List<Entry>,
}

static OF_PLATFORMS: LazyLock<Vec<OfPlatform>> = LazyLock::new(|| {
    let found = PLATFORMS.iter().flat_map(|platform| {
        let names = platform.names.iter();
        names.map(move |name| (platform, *name))
    });
    let of = |(platform, name): (&'static Platform, &'static str)| OfPlatform {
        name,
        web: of_daemon(platform, name, platform.port),
        other: of_daemon(platform, name, None),
    };
    found.map(of).collect()
});

/// The defaults of a section of which `written` is set. Some of them may be set, too.
pub(super) fn of(spec: Spec, written: &List<Entry>) -> &'static List<Entry> {
    if spec.name == NET && written.contains("ip") {
        return &WITH_ADDRESS;
    }
    OF_SECTIONS.get(spec.rank).unwrap_or(&NONE)
}

/// As [`of`], for a daemon of a platform that [`find`](crate::platforms::find) found.
pub(super) fn of_platform(
    (platform, name): (&'static Platform, &'static str),
    written: &List<Entry>,
) -> &'static List<Entry> {
    let of_name = OF_PLATFORMS.iter().find(|one| one.name == name);
    match of_name {
        Some(one) if platform.is_web(|key| written.contains(key)) => &one.web,
        Some(one) => &one.other,
        None => &NONE,
    }
}

fn of_net(mode: &'static str) -> List<Entry> {
    let spec = keys::rows_of(NET);
    let own = spec.and_then(|spec| default(spec, "mode", Str::built_in(mode)));
    own.into_iter()
        .chain(spec.into_iter().flat_map(rows))
        .collect()
}

/// What the platform says comes before what the table says.
fn of_daemon(platform: &'static Platform, name: &'static str, port: Option<u16>) -> List<Entry> {
    let Some(spec) = keys::rows_of(super::merge::ALL_DAEMONS) else {
        return List::default();
    };
    let port = port.map(|port| Str::from(port.to_string()));
    let own = [
        default(spec, "platform", Str::built_in(name)),
        port.and_then(|port| default(spec, "port", port)),
        default(spec, "stop.signal", Str::built_in(platform.stop_signal)),
    ];
    let mut entries: List<Entry> = own.into_iter().flatten().collect();
    let serves = |entry: &Entry| entry.row.serves_found(Some((platform, name)));
    for entry in rows(spec).filter(serves) {
        if !entries.contains(&entry.key) {
            entries.push(entry);
        }
    }
    entries
}

fn rows(spec: Spec) -> impl Iterator<Item = Entry> {
    let rows = spec.defaults().iter();
    rows.filter_map(|row| Some(entry(row, Str::built_in(row.default?))))
}

fn default(spec: Spec, key: &str, text: Str) -> Option<Entry> {
    let (row, _) = spec.find(key)?;
    Some(entry(row, text))
}

fn entry(row: &'static Key, text: Str) -> Entry {
    Entry {
        key: Str::built_in(row.name),
        row,
        shown: None,
        value: Value {
            text: text.clone(),
            raw: text,
            origin: Origin::default_value(),
            overrides: Vec::new(),
            sensitive: false,
        },
        words: None,
        for_all: false,
        unusable: false,
    }
}
