//! What the jobs of an instance are called. `@` stands in no name of an instance or daemon, so that the job of the
//! instance `a-b` is never that of the daemon `b` of `a`.

use std::path::PathBuf;

/// The job that answers for names, of all instances.
pub(crate) const RESOLVER: &str = "metactl-resolver";
/// How the jobs of instances begin.
pub(super) const INSTANCE: &str = "metactl@";

/// `metactl@<instance>`: the instance as a whole, and its network.
pub(crate) fn instance(instance: &str) -> String {
    format!("{INSTANCE}{instance}")
}

/// `metactl-watch@<instance>`: told of the end of what runs without a sandbox.
pub(crate) fn watch(instance: &str) -> String {
    format!("metactl-watch@{instance}")
}

/// `metactl-<instance>-<entry>`: a daemon, or a cron job.
pub(crate) fn entry(instance: &str, entry: &str) -> String {
    format!("metactl-{instance}-{entry}")
}

/// The file of a job in `/etc/init`.
pub(super) fn file(job: &str) -> String {
    format!("{job}.conf")
}

/// `metactl-<instance>` in `/etc/cron.d`. cron(8) of Debian leaves out what has a dot in its name.
pub(super) fn crontab(instance: &str) -> String {
    format!("metactl-{}", instance.replace('.', "_"))
}

/// Where Upstart writes what a job says (init(5), `console log`).
pub(super) fn log(job: &str) -> PathBuf {
    PathBuf::from(format!("/var/log/upstart/{job}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_jobs_have_one_name() {
        assert_ne!(instance("a-b"), entry("a", "b"));
        assert_eq!(entry("shop", "web"), "metactl-shop-web");
        assert_eq!(crontab("shop.2"), "metactl-shop_2");
        assert_eq!(
            log("metactl-shop-cron.nightly").to_str(),
            Some("/var/log/upstart/metactl-shop-cron.nightly.log")
        );
    }
}
