//! `[secrets]` and `[secrets.env]`.

use std::collections::BTreeMap;

use super::Builder;
use crate::app::{Secret, SecretSource};
use crate::keys::suggest;
use crate::redact::SECRETS;
use crate::secrets;

const VARIABLES: &str = "secrets.env";

impl Builder<'_> {
    pub(super) fn secrets(&mut self) -> BTreeMap<String, Secret> {
        let mut found: BTreeMap<String, Secret> = self
            .usable(SECRETS)
            .map(|(name, value)| {
                let source = match secrets::file(&value.text) {
                    Some(path) => SecretSource::File(path.into()),
                    None => SecretSource::Inline(value.text.as_bytes().into()),
                };
                let secret = Secret {
                    source,
                    variables: BTreeMap::new(),
                    origin: value.origin.clone(),
                };
                (name.to_owned(), secret)
            })
            .collect();
        let mut wrong = Vec::new();
        for (variable, value) in self.usable(VARIABLES) {
            if let Some(other) = self.value("env", variable) {
                let message = format!("`{variable}` in [{VARIABLES}] is in [env] too");
                let hint = format!(
                    "it can have one value: remove it here or at {}",
                    other.origin
                );
                wrong.push((value, message, hint));
            } else if let Some(secret) = found.get_mut(value.text.as_str()) {
                let origin = value.origin.clone();
                secret.variables.insert(variable.to_owned(), origin);
            } else if self.config.get(SECRETS, &value.text).is_none() {
                let message = format!("`{variable}`: there is no secret `{}`", value.text);
                let hint = match suggest::nearest(&value.text, found.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "say it in [{SECRETS}] of the site or local layer: {} = file:/PATH",
                        value.text
                    ),
                };
                wrong.push((value, message, hint));
            }
        }
        for (value, message, hint) in wrong {
            self.error(&value.origin, message, Some(&hint));
        }
        found
    }
}
