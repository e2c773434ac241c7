//! What of a config.json means something to SMF: the command line, the environment, the user, the privileges.

use std::collections::BTreeMap;
use std::path::Path;

use metactl_bundles::bundle::Manifest;
use metactl_bundles::redact;
use serde_json::Value;

use super::privileges;
use crate::error::{LifecycleError, OnPath, Result};

/// The process of an entry point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) args: Vec<String>,
    pub(super) cwd: String,
    /// Without the secret variables.
    pub(super) env: BTreeMap<String, String>,
    /// Secret variables, with the names of the secrets.
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) groups: Vec<u64>,
    /// As `privileges=` of a method has them (privileges(7)).
    pub(super) privileges: String,
    pub(super) limit_privileges: String,
}

/// The process of the entry point `name`, from the config.json in `dir`.
///
/// # Errors
/// A file that is no config.json, a capability that Solaris has no privilege for, and a password in the environment
/// that everybody on the server could read.
pub(super) fn read(manifest: &Manifest, name: &str, dir: &Path) -> Result<Process> {
    let path = dir.join("config.json");
    let text = std::fs::read(&path).on("read", &path)?;
    let wrong = |why: String| LifecycleError::Record {
        path: path.clone(),
        why,
    };
    let config: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    of(manifest, name, &config)?
        .ok_or_else(|| wrong("it has no process that could be started".to_owned()))
}

fn of(manifest: &Manifest, name: &str, config: &Value) -> Result<Option<Process>> {
    let strings = |pointer: &str| -> Vec<String> {
        let list = config.pointer(pointer).and_then(Value::as_array);
        let words = list.into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    };
    let number = |pointer: &str| config.pointer(pointer).and_then(Value::as_u64);
    let args = strings("/process/args");
    let (Some(uid), Some(gid), false) = (
        number("/process/user/uid"),
        number("/process/user/gid"),
        args.is_empty(),
    ) else {
        return Ok(None);
    };
    let groups = config.pointer("/process/user/additionalGids");
    let groups = groups.and_then(Value::as_array).into_iter().flatten();
    let secrets = secret_variables(manifest);
    let mut env = BTreeMap::new();
    for variable in strings("/process/env") {
        if let Some((key, value)) = variable.split_once('=')
            && !secrets.contains_key(key)
        {
            check_public(manifest, key, value)?;
            env.insert(key.to_owned(), value.to_owned());
        }
    }
    let granted = strings("/process/capabilities/permitted");
    let privileges = privileges::of(name, &granted)?;
    Ok(Some(Process {
        args,
        cwd: config
            .pointer("/process/cwd")
            .and_then(Value::as_str)
            .unwrap_or("/")
            .to_owned(),
        env,
        secrets,
        uid,
        gid,
        groups: groups.filter_map(Value::as_u64).collect(),
        privileges: privileges.effective,
        limit_privileges: privileges.limit,
    }))
}

/// The variables of `[secrets.env]`, with the names of their secrets.
fn secret_variables(manifest: &Manifest) -> BTreeMap<String, String> {
    let settings = manifest.settings.iter();
    settings
        .filter(|setting| setting.section == "secrets.env")
        .map(|setting| (setting.key.clone(), setting.value.clone()))
        .collect()
}

/// What stands in the repository of SMF, `svcprop` shows to everybody.
fn check_public(manifest: &Manifest, key: &str, value: &str) -> Result<()> {
    let mut settings = manifest.settings.iter();
    let said = settings.find(|setting| setting.section == "env" && setting.key == key);
    let masked = said.is_some_and(|setting| setting.value.contains(redact::MASK));
    if !masked && !redact::has_password(value) {
        return Ok(());
    }
    let origin = said
        .map(|setting| format!(" ({})", setting.origin))
        .unwrap_or_default();
    Err(LifecycleError::Setting {
        what: format!(
            "{key} in [env]{origin} holds a password, and what a service of SMF has in its environment everybody on the server can read (svcprop)"
        ),
        hint: format!("put it into [secrets], and name it in [secrets.env]: {key} = NAME"),
    })
}

#[cfg(test)]
mod tests {
    use metactl_bundles::bundle::Setting;
    use serde_json::json;

    use super::*;
    use crate::service::smf::render::tests::manifest;

    fn config(env: &[&str]) -> Value {
        json!({"process": {"args": ["/app/run", "x y"], "cwd": "/app", "env": env,
            "user": {"uid": 66000, "gid": 66001, "additionalGids": [7]},
            "capabilities": {"permitted": ["CAP_NET_RAW"]}}})
    }

    fn setting(section: &str, key: &str, value: &str) -> Setting {
        Setting {
            section: section.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            layer: "local".to_owned(),
            origin: "nodes/a.conf:3".to_owned(),
        }
    }

    #[test]
    fn a_config_json_is_understood() {
        let mut manifest = manifest("a", Vec::new());
        manifest.settings = vec![setting("secrets.env", "PW", "db.pw")];
        let process = of(&manifest, "web", &config(&["A=b=c", "PW=geheim"]))
            .unwrap()
            .unwrap();
        assert_eq!(process.args, ["/app/run", "x y"]);
        assert_eq!(
            (process.uid, process.gid, process.groups),
            (66000, 66001, vec![7])
        );
        assert_eq!(
            process.env,
            BTreeMap::from([("A".to_owned(), "b=c".to_owned())])
        );
        assert_eq!(
            process.secrets,
            BTreeMap::from([("PW".to_owned(), "db.pw".to_owned())])
        );
        assert!(process.privileges.contains("net_rawaccess"));
        assert_eq!(of(&manifest, "web", &json!({"process": {}})).unwrap(), None);
    }

    #[test]
    fn passwords_do_not_get_into_the_repository_of_smf() {
        let mut manifest = manifest("a", Vec::new());
        manifest.settings = vec![setting("env", "DB_URL", "mysql://me:***@db/x")];
        let error = of(
            &manifest,
            "web",
            &config(&["DB_URL=mysql://me:geheim@db/x"]),
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("DB_URL in [env] (nodes/a.conf:3)"), "{text}");
        assert!(!text.contains("geheim"), "{text}");
        assert!(error.hint().unwrap().contains("[secrets.env]"));
        // Also one that the settings do not know of.
        of(&manifest, "web", &config(&["X=ftp://me:geheim@db/x"])).unwrap_err();
    }
}
