use std::path::PathBuf;

use crate::app::App;
use crate::diagnostics::Report;
use crate::layers::{LayerKind, Source};
use crate::model;

fn load(layer: &str) -> Result<App, Report> {
    let source = Source::new(
        LayerKind::Site,
        PathBuf::from("site.conf"),
        layer.to_owned(),
    );
    model::load(vec![source], "a").map(|(_, app)| app)
}

fn error(layer: &str) -> String {
    load(layer).unwrap_err().to_string()
}

/// `-Xmx` of a daemon, if it is there.
fn heap(app: &App, name: &str) -> Option<String> {
    let mut args = app.daemons[name].launch.args.iter();
    args.find(|arg| arg.starts_with("-Xmx")).cloned()
}

const JVM: &str = "[daemon.a]\njvm.jar = a.jar\n";

#[test]
fn a_heap_that_nobody_set_follows_the_limit() {
    // 64m for the rest of a JVM, three quarters of what is left.
    for (limits, expected) in [
        ("", Some("-Xmx720m")),
        ("[sandbox.limits]\nmemory = 256m\n", Some("-Xmx144m")),
        ("[daemon.a]\nlimits.memory = 512m\n", Some("-Xmx336m")),
        ("[daemon.a]\njvm.metaspace.max = 88m\n", Some("-Xmx672m")),
        ("[daemon.a]\njvm.threads = 84\n", Some("-Xmx672m")),
        ("[sandbox.limits]\nmemory = unlimited\n", None),
        // An own limit counts also when the instance has none.
        (
            "[sandbox.limits]\nmemory = unlimited\n[daemon.a]\nlimits.memory = 512m\n",
            Some("-Xmx336m"),
        ),
        ("[daemon.a]\njvm.options = -Xmx100m\n", Some("-Xmx100m")),
        ("[daemon.a]\njvm.options = -XX:MaxRAMPercentage=50\n", None),
    ] {
        let app = load(&format!("{JVM}{limits}")).unwrap();
        assert_eq!(heap(&app, "a").as_deref(), expected, "{limits}");
    }
}

#[test]
fn several_heaps_that_nobody_set_share_what_is_left() {
    let app = load(
        "[daemon.a]\njvm.jar = a.jar\n[daemon.b]\njvm.jar = b.jar\nlimits.memory = 128m\n\
         [daemon.c]\njvm.jar = c.jar\njvm.heap.max = 192m\n",
    )
    .unwrap();
    // 1024m - 3 * 64m - 192m = 640m; three quarters are 480m, for two.
    assert_eq!(heap(&app, "a").unwrap(), "-Xmx240m");
    assert_eq!(
        heap(&app, "b").unwrap(),
        "-Xmx48m",
        "its own limit is narrower"
    );
    assert_eq!(heap(&app, "c").unwrap(), "-Xmx192m");
}

#[test]
fn what_one_may_take_is_told_with_every_part() {
    let text = error(
        "[daemon.a]\njvm.jar = a.jar\njvm.heap.max = 900m\njvm.metaspace.max = 128m\n\
         jvm.threads = 100\njvm.stack = 512k\n",
    );
    for part in [
        "may take 1098m, more than the 1g of `memory` of [sandbox.limits] (default)",
        "heap 900m (jvm.heap.max, site.conf:3)",
        "metaspace 128m (jvm.metaspace.max, site.conf:4)",
        "direct memory 4m (assumed)",
        "code cache 16m (assumed)",
        "100 threads (jvm.threads, site.conf:5) with stacks of 512k (jvm.stack, site.conf:6): 50m",
        "jvm.heap.max = 826m would fit",
        "site.conf:3:16",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    // What would fit does.
    let fits = "[daemon.a]\njvm.jar = a.jar\njvm.heap.max = 826m\njvm.metaspace.max = 128m\n\
                jvm.threads = 100\njvm.stack = 512k\n";
    assert!(load(fits).is_ok());
}

#[test]
fn a_daemons_own_limit_counts_first() {
    let text = error(
        "[daemon.a]\njvm.jar = a.jar\nlimits.memory = 256m\njvm.options = -Xmx240m -XX:MaxDirectMemorySize=64m\n",
    );
    for part in [
        "may take 364m, more than the 256m of `limits.memory` of [daemon.a] (site.conf:3)",
        "heap 240m (-Xmx240m, site.conf:4)",
        "direct memory 64m (-XX:MaxDirectMemorySize=64m, site.conf:4)",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn all_jvms_together_fit_into_the_instance() {
    let text = error(
        "[daemon.a]\njvm.jar = a.jar\njvm.heap.max = 600m\n[daemon.b]\njvm.jar = b.jar\njvm.heap.max = 300m\n",
    );
    assert!(
        text.contains("the JVMs of this instance may take 1028m, more than the 1g of")
            && text.contains("a 664m (heap 600m")
            && text.contains("b 364m (heap 300m"),
        "{text}"
    );
}

#[test]
fn no_room_for_a_heap_is_an_error() {
    let text = error("[daemon.a]\njvm.jar = a.jar\nlimits.memory = 80m\n");
    assert!(
        text.contains("leaves no heap for the JVM of [daemon.a]"),
        "{text}"
    );
    let text =
        error("[daemon.a]\njvm.jar = a.jar\n[daemon.b]\njvm.jar = b.jar\njvm.heap.max = 900m\n");
    assert!(
        text.contains("leaves no heap for the JVM of [daemon.a]") && text.contains("takes 1028m"),
        "{text}"
    );
    let text = error("[daemon.a]\njvm.jar = a.jar\njvm.heap.min = 800m\n");
    assert!(text.contains("more than the 720m"), "{text}");
}

#[test]
fn threads_become_a_limit_and_are_inside_of_the_others() {
    let app = load("[daemon.a]\njvm.jar = a.jar\njvm.threads = 50\n").unwrap();
    assert_eq!(app.daemons["a"].limits.pids, Some(50));
    let text = error("[daemon.a]\njvm.jar = a.jar\njvm.threads = 50\nlimits.pids = 40\n");
    assert!(
        text.contains("`limits.pids` of [daemon.a] allows 40"),
        "{text}"
    );
    let text =
        error("[daemon.a]\njvm.jar = a.jar\njvm.threads = 50\n[sandbox.limits]\npids = 40\n");
    assert!(
        text.contains("`pids` of [sandbox.limits] allows 40"),
        "{text}"
    );
}

#[test]
fn what_is_said_twice_is_an_error() {
    for (line, both) in [
        (
            "jvm.heap.max = 100m\njvm.options = -ea -Xmx200m",
            "`-Xmx200m` says again",
        ),
        (
            "jvm.stack = 1m\njvm.options = -XX:ThreadStackSize=512",
            "what jvm.stack says",
        ),
        (
            "jvm.heap.max = 100m\njvm.options = -XX:MaxRAMPercentage=50",
            "what jvm.heap.max says",
        ),
        (
            "jvm.heap.max = 100m\njvm.heap.min = 200m",
            "more than jvm.heap.max",
        ),
        ("jvm.threads = 3", "number of threads"),
    ] {
        let text = error(&format!("{JVM}{line}\n"));
        assert!(text.contains(both), "{both}:\n{text}");
    }
}
