//! `[crontab]` and `[cron]`.

use super::Builder;
use crate::app::CronJob;
use crate::keys::values;
use crate::layers::Section;
use crate::maps::{HashMap, HashSet};
use crate::platforms;
use crate::schedule::{CronSettings, Missed};

/// The longest name of a job as a file name.
const MAX_SLUG: usize = 64;

impl Builder<'_> {
    pub(super) fn cron(&mut self) -> Vec<CronJob> {
        let mut slugs = Slugs::default();
        let lines = self.usable("crontab");
        let mut jobs = Vec::with_capacity(self.part("crontab").map_or(0, Section::len));
        for (name, value) in lines {
            let Ok((schedule, command)) = values::checked_cron(&value.text) else {
                continue;
            };
            jobs.push(CronJob {
                name: name.to_owned(),
                slug: slugs.unique(slug(name)),
                schedule: schedule.into_owned(),
                launch: platforms::cron(command, &value.origin),
                command: command.to_owned(),
                origin: value.origin.clone(),
            });
        }
        jobs
    }

    pub(super) fn cron_settings(&mut self) -> CronSettings {
        let missed = self
            .value("cron", "missed")
            .map(|value| value.text.as_str());
        CronSettings {
            missed: match missed {
                Some("once") => Missed::Once,
                _ => Missed::Skip,
            },
            timezone: self.typed("cron", "timezone", values::time_zone),
            delay: self
                .typed("cron", "delay", values::duration)
                .unwrap_or_default(),
        }
    }
}

/// `Daily housekeeping!` as a file name: `daily-housekeeping`.
pub(super) fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            slug.push(char::from(byte.to_ascii_lowercase()));
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(MAX_SLUG);
    if slug.is_empty() {
        "job".to_owned()
    } else {
        slug.truncate(slug.trim_end_matches('-').len());
        slug
    }
}

/// The slugs given out, and for each the last number behind it.
#[derive(Default)]
struct Slugs {
    taken: HashSet<String>,
    last: HashMap<String, usize>,
}

impl Slugs {
    /// `slug`, with a number behind it when it is taken.
    fn unique(&mut self, slug: String) -> String {
        if self.taken.insert(slug.clone()) {
            return slug;
        }
        let mut free = slug.clone();
        while !self.taken.insert(free.clone()) {
            let last = self.last.entry(slug.clone()).or_insert(1);
            *last += 1;
            free = format!("{slug}-{last}");
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs_become_names_of_files() {
        for (name, expected) in [
            ("daily housekeeping", "daily-housekeeping"),
            ("Harvest: data/../x", "harvest-data-x"),
            ("日本", "job"),
            ("-", "job"),
        ] {
            assert_eq!(slug(name), expected);
        }
        assert!(slug(&"a ".repeat(100)).len() <= MAX_SLUG);
    }

    #[test]
    fn two_jobs_never_share_a_file() {
        let mut slugs = Slugs::default();
        let names = ["a b", "a-b", "A b", "a b 2"].map(|name| slugs.unique(slug(name)));
        assert_eq!(names, ["a-b", "a-b-2", "a-b-3", "a-b-2-2"]);
    }
}
