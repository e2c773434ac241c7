//! Capabilities that only newer kernels know: whoever gives one to a process can do without it, as
//! the process will have to.

use serde_json::Value;

/// The configuration without names of capabilities that are unknown, each of them a warning; none
/// when there are no such names.
pub(super) fn without_unknown(text: &[u8], warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(text).ok()?;
    let sets = config
        .pointer_mut("/process/capabilities")?
        .as_object_mut()?;
    let before = warnings.len();
    for (set, names) in sets {
        let Some(names) = names.as_array_mut() else {
            continue;
        };
        names.retain(|name| {
            let known = serde_json::from_value::<oci_spec::runtime::Capability>(name.clone());
            if known.is_err() && name.is_string() {
                let name = name.as_str().unwrap_or_default();
                warnings.push(format!(
                    "ignoring unknown or unavailable capabilities: [{name}] \
                     (process.capabilities.{set})"
                ));
            }
            known.is_ok() || !name.is_string()
        });
    }
    let found = warnings.len() > before;
    let text = serde_json::to_vec(&config).ok();
    text.filter(|_| found)
}
