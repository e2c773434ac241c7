//! Hooks: programs that are told of a container at six moments of its life (runtime-spec, config,
//! "POSIX-platform Hooks").

use std::time::Duration;

use oci_spec::runtime::Hook as OciHook;

use crate::plan::step::Step;
use crate::plan::values::{Hook, Program};
use crate::spec::{Bundle, kinds_of_hooks};

fn list<'b>(bundle: &'b Bundle, kind: &str) -> &'b [OciHook] {
    let all = bundle.spec.hooks().as_ref().map(kinds_of_hooks);
    let found = all
        .into_iter()
        .flatten()
        .find(|(name, list)| *name == kind && !list.is_empty());
    found.map_or(&[], |(_, list)| list)
}

/// Whether there are hooks of this kind.
pub fn has(bundle: &Bundle, kind: &str) -> bool {
    !list(bundle, kind).is_empty()
}

/// Whether there are any.
pub fn any(bundle: &Bundle) -> bool {
    let all = bundle.spec.hooks().as_ref().map(kinds_of_hooks);
    all.into_iter().flatten().any(|(_, list)| !list.is_empty())
}

/// Whether the new process has to wait for hooks before its root takes its place.
pub fn before_pivot(bundle: &Bundle) -> bool {
    ["prestart", "createRuntime", "createContainer"]
        .iter()
        .any(|kind| has(bundle, kind))
}

/// The hooks of a kind, in their order.
pub fn of(bundle: &Bundle, kind: &str) -> Vec<Hook> {
    list(bundle, kind).iter().map(hook).collect()
}

/// The step that runs the hooks of a kind, when there are any.
pub fn step(bundle: &Bundle, kind: &'static str) -> Option<Step> {
    let hooks = of(bundle, kind);
    (!hooks.is_empty()).then_some(Step::Hooks { kind, hooks })
}

fn hook(hook: &OciHook) -> Hook {
    let arguments = hook.args().clone().filter(|args| !args.is_empty());
    let name = || vec![hook.path().to_string_lossy().into_owned()];
    Hook {
        program: Program {
            file: Some(hook.path().clone()),
            arguments: arguments.unwrap_or_else(name),
            environment: hook.env().clone().unwrap_or_default(),
        },
        inherit: hook.env().is_none(),
        timeout: hook
            .timeout()
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
    }
}
