//! Choosing between programs of the host, and looking for what the release has to have, when a
//! bundle is composed. See [`super::settle`].

use crate::app::{Choice, HostNeed, Launch};
use crate::bundle::Problems;
use crate::view::HostView;

/// Takes the first way of `choice` for which the host has everything.
pub(super) fn choose(
    launch: &mut Launch,
    choice: &Choice,
    host: &HostView,
    problems: &mut Problems<'_>,
) {
    let is_there = |path| host.needs.contains_key(path);
    let Some(way) = choice
        .ways
        .iter()
        .find(|way| way.needs.iter().all(is_there))
    else {
        let missing: Vec<String> = choice
            .ways
            .iter()
            .filter_map(|way| {
                way.needs
                    .iter()
                    .find(|path| !host.needs.contains_key(*path))
            })
            .map(|path| path.display().to_string())
            .collect();
        problems.at(
            choice.origin.as_ref(),
            format!(
                "{} is not on this host: there is no {}",
                choice.what,
                missing.join(" and no ")
            ),
            &choice.hint,
        );
        return;
    };
    launch.args.clone_from(&way.args);
    launch.needs.extend(way.needs.iter().map(|path| HostNeed {
        path: path.clone(),
        probe: None,
        what: choice.what.clone().into(),
        origin: choice.origin.clone(),
        hint: choice.hint.clone().into(),
    }));
}

/// Tells what of [`Launch::release`] the release does not have.
pub(super) fn check_release(launch: &Launch, host: &HostView, problems: &mut Problems<'_>) {
    for need in &launch.release {
        if host.release_lacks.contains(&need.path) {
            problems.at(
                need.origin.as_ref(),
                format!("the release has no {}", need.path.display()),
                &need.hint,
            );
        }
    }
}
