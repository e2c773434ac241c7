//! `[smf.*]`.

use super::Builder;
use crate::smf::{self, Settings};

impl Builder<'_> {
    /// What else is said to SMF.
    pub(super) fn smf(&mut self) -> Settings {
        let mut settings = Settings {
            project: self
                .typed("smf.method", "project", smf::project)
                .map(str::to_owned),
            resource_pool: self
                .typed("smf.method", "resource_pool", smf::project)
                .map(str::to_owned),
            ..Settings::default()
        };
        let named: Vec<_> = self.usable("smf.dependency").collect();
        for (name, _) in named {
            if let Some(found) = self.typed("smf.dependency", name, smf::dependency) {
                settings.dependencies.insert(name.to_owned(), found);
            }
        }
        let named: Vec<_> = self.usable("smf.property").collect();
        for (name, value) in named {
            // A name that is none was told with the key.
            let Ok((group, property)) = smf::property_name(name) else {
                continue;
            };
            if settings.dependencies.contains_key(group) {
                let message = format!(
                    "`{name}` in [smf.property] is of a group that [smf.dependency] has already"
                );
                self.error(
                    &value.origin,
                    message,
                    Some("give the dependency another name"),
                );
                continue;
            }
            if let Some(found) = self.typed("smf.property", name, smf::property) {
                let group = settings.properties.entry(group.to_owned()).or_default();
                group.insert(property.to_owned(), found);
            }
        }
        settings
    }
}
