//! What a foreground run looks after: the resolver, and what others may break in the server's network.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use metactl_netns::resolver::Places;
use metactl_runtime::resolver::OnDisk;

use crate::error::OnPath;
use crate::mend::{self, Mender};
use crate::resolver::Keeper;
use crate::standalone::needs_resolver;

/// What is looked after while it runs.
pub(super) struct Looked<'a> {
    pub(super) resolver: &'a mut Keeper,
    pub(super) mender: Mender,
    pub(super) places: OnDisk,
    pub(super) network: mend::Network<'a>,
}

impl Looked<'_> {
    /// Does what is due, and says what it was.
    pub(super) fn look_after(&mut self) {
        let mut said: Vec<String> = self.resolver.look_after().into_iter().collect();
        if needs_resolver(self.network.spec) {
            let (places, network) = (&self.places, &self.network);
            said.extend(self.mender.look(|| {
                // Nothing is pinned: the namespace is that of the first process.
                match places.namespace(network.user) {
                    Ok(netns) => network.mend(netns.as_fd()),
                    // It is ending just now.
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
                    failed => failed
                        .on("find the network of", Path::new(network.user))
                        .map(|_| Vec::new()),
                }
            }));
        }
        for line in said {
            eprintln!("metactl: {line}");
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let mend = needs_resolver(self.network.spec).then(|| self.mender.due());
        [self.resolver.deadline(), mend].into_iter().flatten().min()
    }
}
