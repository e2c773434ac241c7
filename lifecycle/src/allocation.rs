//! What the server gives to an instance: a user id, and in `nat` mode an address of the pool.
//!
//! Recorded in `allocation.json` beside the instance's data, so that an instance keeps both for as
//! long as it has data. All allocations of a server are made under one lock, `<state>/.lock`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv6Net;
use metactl_bundles::network::NetworkSpec;
use metactl_bundles::paths::Paths;
use metactl_bundles::server::Server;
use serde::{Deserialize, Serialize};

use crate::accounts::{self, Accounts};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::lock::Lock;

/// The format number of `allocation.json`.
const FORMAT: u32 = 1;
/// The name of the file.
pub(crate) const FILE: &str = "allocation.json";
/// How long others may take for an allocation of theirs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an instance was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Allocation {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Its user id.
    pub(crate) uid: u32,
    /// Its group id: the same number, unless `[sandbox] user` names an account.
    pub(crate) gid: u32,
    /// Its address of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<Ipv4Addr>,
    /// Its address of the pool of IPv6 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address6: Option<Ipv6Addr>,
}

/// What an instance needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs<'a> {
    /// The directory that `allocation.json` is in.
    pub(crate) dir: &'a Path,
    /// `[sandbox] user`.
    pub(crate) account: Option<&'a str>,
    /// Whether it needs an address of the pool.
    pub(crate) address: bool,
}

/// Reads what an instance was given.
pub(crate) fn read(dir: &Path) -> Result<Option<Allocation>> {
    let path = dir.join(FILE);
    let allocation: Option<Allocation> = files::read_json(&path)?;
    match allocation {
        Some(found) if found.format != FORMAT => Err(LifecycleError::Record {
            path,
            why: format!("format {} is not known to this metactl", found.format),
        }),
        other => Ok(other),
    }
}

/// Gives an instance what it needs, the same as before where it has it already.
pub(crate) fn allocate(paths: &Paths, server: &Server, needs: Needs<'_>) -> Result<Allocation> {
    let before = read(needs.dir)?;
    let lock = Lock::acquire(&paths.state.join(".lock"), "allocate", PATIENCE)?;
    let _lock = lock.map_err(|held| LifecycleError::Locked {
        instance: "the list of user ids and addresses".to_owned(),
        holder: held.0,
    })?;
    // Nearly always. What all others have takes long to find out.
    if let Some(had) = before.as_ref().filter(|had| had.suffices(server, needs))
        && (!needs.address || !may_be_others(paths, needs.dir, had)?)
    {
        return Ok(had.clone());
    }
    let allocation = Others::gather(paths, needs.dir)?.allocate(server, needs, before.as_ref())?;
    if before.as_ref() != Some(&allocation) {
        files::make_dir(needs.dir, 0o755)?;
        files::replace_json(&needs.dir.join(FILE), &allocation, 0o644)?;
    }
    Ok(allocation)
}

impl Allocation {
    /// Whether it has all that is needed and nothing else, if nobody else has its addresses.
    fn suffices(&self, server: &Server, needs: Needs<'_>) -> bool {
        let in_pool = |address: &Ipv4Addr| server.pool.contains(address);
        let addresses = match (needs.address, server.pool6, self.address6) {
            // It keeps what it may need again.
            (false, _, _) => self.address.as_ref().is_none_or(in_pool),
            (true, Some(pool), Some(address)) => {
                self.address.as_ref().is_some_and(in_pool) && pool.contains(&address)
            }
            (true, None, None) => self.address.as_ref().is_some_and(in_pool),
            (true, _, _) => false,
        };
        // An account may have got another number.
        needs.account.is_none() && server.uid_range.contains(&self.uid) && addresses
    }
}

/// Whether anybody else may have one of its addresses, without understanding what the records of others say.
fn may_be_others(paths: &Paths, own: &Path, had: &Allocation) -> Result<bool> {
    let addresses = had.address.iter().map(|address| format!("\"{address}\""));
    let addresses6 = had.address6.iter().map(|address| format!("\"{address}\""));
    let wanted: Vec<String> = addresses.chain(addresses6).collect();
    let is_in = |path: &Path| match files::read(path) {
        Ok(Some(text)) => {
            let text = String::from_utf8_lossy(&text);
            wanted.iter().any(|address| text.contains(address))
        }
        Ok(None) => false,
        // A closer look says what it counts as.
        Err(_) => true,
    };
    let mut others = state_dirs(paths)?.into_iter().filter(|dir| dir != own);
    Ok(others.any(|dir| is_in(&dir.join(FILE)) || is_in(&dir.join("bundle/network.json"))))
}

/// What others have.
#[derive(Debug, Default)]
struct Others {
    uids: BTreeSet<u32>,
    addresses: BTreeSet<Ipv4Addr>,
    addresses6: BTreeSet<Ipv6Addr>,
}

impl Others {
    /// Looks at every instance and every foreground run but `own`.
    fn gather(paths: &Paths, own: &Path) -> Result<Others> {
        let mut others = Others::default();
        for dir in state_dirs(paths)? {
            // Who owns data keeps the uid, also when the record is gone.
            others.add_owners(&dir.join("data"))?;
            if dir == own {
                continue;
            }
            let mut addresses = bundle_addresses(&dir);
            match read(&dir) {
                Ok(Some(had)) => {
                    others.uids.extend([had.uid, had.gid]);
                    others.addresses.extend(had.address);
                    others.addresses6.extend(had.address6);
                }
                Ok(None) => {}
                // That stops only whose record it is. What can be known otherwise counts as taken:
                // owners, and the addresses of every bundle.
                Err(_) => {
                    others.add_owners(&dir.join("tmp"))?;
                    for bundle in files::entries(&dir.join("bundles"))? {
                        addresses.extend(addresses_in(&bundle));
                    }
                }
            }
            for address in addresses {
                match address {
                    IpAddr::V4(address) => others.addresses.insert(address),
                    IpAddr::V6(address) => others.addresses6.insert(address),
                };
            }
        }
        // The own data, too: they are only kept by those who have the record.
        Ok(others)
    }

    /// What an instance that had `before` gets.
    fn allocate(
        &self,
        server: &Server,
        needs: Needs<'_>,
        before: Option<&Allocation>,
    ) -> Result<Allocation> {
        let (uid, gid) = match (needs.account, before) {
            (Some(name), _) => accounts::of_name(name)?,
            (None, Some(had)) if server.uid_range.contains(&had.uid) => (had.uid, had.gid),
            (None, _) => {
                let uid = self.free_uid(server, &Accounts::read(Path::new("/etc"))?)?;
                (uid, uid)
            }
        };
        let kept = before
            .and_then(|had| had.address)
            .filter(|a| server.pool.contains(a));
        let address = match (needs.address, kept) {
            (false, kept) => kept,
            (true, Some(kept)) if !self.addresses.contains(&kept) => Some(kept),
            (true, _) => Some(self.free_address(server)?),
        };
        let kept6 = before.and_then(|had| had.address6);
        let address6 = match (needs.address, server.pool6) {
            (true, Some(pool)) => {
                let free = |kept: &Ipv6Addr| pool.contains(kept) && !self.addresses6.contains(kept);
                match kept6.filter(free) {
                    Some(kept) => Some(kept),
                    None => Some(self.free_address6(&pool)?),
                }
            }
            // Without a pool it is nobody's.
            (true, None) => None,
            (false, _) => kept6,
        };
        Ok(Allocation {
            format: FORMAT,
            uid,
            gid,
            address,
            address6,
        })
    }

    fn add_owners(&mut self, data: &Path) -> Result<()> {
        for path in std::iter::once(data.to_path_buf()).chain(files::entries(data)?) {
            if let Ok(meta) = std::fs::symlink_metadata(&path) {
                self.uids.extend([meta.uid(), meta.gid()]);
            }
        }
        Ok(())
    }

    fn free_uid(&self, server: &Server, accounts: &Accounts) -> Result<u32> {
        let free = |id: &u32| {
            !self.uids.contains(id) && !accounts.contains(*id) && !accounts::has_name(*id)
        };
        server
            .uid_range
            .clone()
            .filter(|id| *id != 0)
            .find(free)
            .ok_or_else(|| LifecycleError::UsedUp {
                what: format!(
                    "the range of user ids {}-{}",
                    server.uid_range.start(),
                    server.uid_range.end()
                ),
                hint: "metactl.conf: [server] uid.range = FIRST-LAST".to_owned(),
            })
    }

    /// The lowest free one. The first address of the pool is the server's.
    fn free_address(&self, server: &Server) -> Result<Ipv4Addr> {
        let mut hosts = server.pool.hosts().skip(1);
        hosts
            .find(|address| !self.addresses.contains(address))
            .ok_or_else(|| LifecycleError::UsedUp {
                what: format!("the pool of addresses {}", server.pool),
                hint: "metactl.conf: [server] pool = a larger one".to_owned(),
            })
    }
}

impl Others {
    /// The lowest free one. The first one of the pool means "any router" (RFC 4291, 2.6.1); the second one is left
    /// out as well, so that both addresses of an instance end alike.
    fn free_address6(&self, pool: &Ipv6Net) -> Result<Ipv6Addr> {
        let mut hosts = pool.hosts().skip(2);
        hosts
            .find(|address| !self.addresses6.contains(address))
            .ok_or_else(|| LifecycleError::UsedUp {
                what: format!("the pool of addresses {pool}"),
                hint: "metactl.conf: [server] pool6 = a larger one".to_owned(),
            })
    }
}

/// The addresses that other instances have, and so nobody else can get.
pub(crate) fn taken_addresses(paths: &Paths, own: &Path) -> Result<BTreeSet<Ipv4Addr>> {
    Ok(Others::gather(paths, own)?.addresses)
}

/// The state directories of all instances, foreground runs and builds.
pub(crate) fn state_dirs(paths: &Paths) -> Result<Vec<PathBuf>> {
    let mut dirs = files::entries(&paths.state)?;
    dirs.extend(files::entries(&paths.cache.join("run"))?);
    dirs.extend(files::entries(&paths.cache.join("build"))?);
    dirs.retain(|path| !files::name_of(path).starts_with('.') && path.is_dir());
    Ok(dirs)
}

/// The addresses in the bundle in use; none when it cannot be read.
pub(crate) fn bundle_addresses(state_dir: &Path) -> Vec<IpAddr> {
    addresses_in(&state_dir.join("bundle"))
}

fn addresses_in(bundle: &Path) -> Vec<IpAddr> {
    let spec: Result<Option<NetworkSpec>> = files::read_json(&bundle.join("network.json"));
    spec.ok()
        .flatten()
        .map(|spec| spec.addresses)
        .unwrap_or_default()
}

/// The name servers that a sandbox can ask: those of `metactl.conf`, else those of the server that
/// are not its own loopback.
pub(crate) fn nameservers(server: &Server) -> Result<Vec<IpAddr>> {
    if !server.nameservers.is_empty() {
        return Ok(server.nameservers.clone());
    }
    let own = resolv_conf(Path::new("/etc/resolv.conf"))?;
    let reachable: Vec<IpAddr> = own.into_iter().filter(|a| !a.is_loopback()).collect();
    if !reachable.is_empty() {
        return Ok(reachable);
    }
    // systemd-resolved(8): the servers behind the local stub.
    let behind = resolv_conf(Path::new("/run/systemd/resolve/resolv.conf"))?;
    Ok(behind
        .into_iter()
        .filter(|address| !address.is_loopback())
        .collect())
}

/// The `nameserver` lines of a file (resolv.conf(5)).
pub(crate) fn resolv_conf(path: &Path) -> Result<Vec<IpAddr>> {
    // /etc/resolv.conf is often a symbolic link.
    let text = match std::fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).on("read", path),
    };
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver"))
            .then(|| words.next()?.parse().ok())
            .flatten()
    };
    Ok(text.lines().filter_map(server).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(dir: &Path) -> Needs<'_> {
        Needs {
            dir,
            account: None,
            address: true,
        }
    }

    #[test]
    fn everybody_gets_the_lowest_that_is_free_and_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let server = Server::default();
        let dir = |name: &str| paths.instance_state(name);
        let one = allocate(&paths, &server, needs(&dir("one"))).unwrap();
        let two = allocate(&paths, &server, needs(&dir("two"))).unwrap();
        assert_eq!(one.address, Some([10, 77, 0, 2].into()));
        assert_eq!(two.address, Some([10, 77, 0, 3].into()));
        assert!(two.uid > one.uid && one.uid == one.gid);
        assert_eq!(allocate(&paths, &server, needs(&dir("one"))).unwrap(), one);

        // Who goes away makes room, but for the uid when data stay.
        std::fs::remove_file(dir("one").join(FILE)).unwrap();
        let three = allocate(&paths, &server, needs(&dir("three"))).unwrap();
        assert_eq!(three, one);
        assert!(!paths.state.join(".lock").exists());
    }

    #[test]
    fn an_address_that_somebody_else_has_too_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let server = Server::default();
        let dir = |name: &str| paths.instance_state(name);
        let one = allocate(&paths, &server, needs(&dir("one"))).unwrap();
        // Somebody has copied the whole directory.
        std::fs::create_dir(dir("two")).unwrap();
        std::fs::copy(dir("one").join(FILE), dir("two").join(FILE)).unwrap();
        let two = allocate(&paths, &server, needs(&dir("two"))).unwrap();
        assert_ne!(two.address, one.address);
        assert_eq!(allocate(&paths, &server, needs(&dir("one"))).unwrap(), one);
        // A bundle in use counts, whatever the record says.
        let bundle = dir("three").join("bundle");
        std::fs::create_dir_all(&bundle).unwrap();
        let all = serde_json::json!({"policy": "accept", "accept": []});
        let spec = serde_json::json!({
            "format": 1, "instance": "three", "mode": "routed", "addresses": [one.address],
            "out": all, "in": all,
        });
        std::fs::write(bundle.join("network.json"), spec.to_string()).unwrap();
        let moved = allocate(&paths, &server, needs(&dir("one"))).unwrap();
        assert_ne!(moved.address, one.address);
    }

    #[test]
    fn owners_of_data_keep_their_uid() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let data = paths.instance_state("gone").join("data");
        std::fs::create_dir_all(&data).unwrap();
        let own = std::fs::metadata(&data).unwrap().uid();
        let mut others = Others::default();
        others.add_owners(&data).unwrap();
        assert!(others.uids.contains(&own));
    }

    #[test]
    fn a_damaged_record_of_another_stops_nobody_but_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let server = Server::default();
        let dir = |name: &str| paths.instance_state(name);
        let one = allocate(&paths, &server, needs(&dir("one"))).unwrap();
        std::fs::write(dir("one").join(FILE), "{").unwrap();
        let data = dir("one").join("data");
        std::fs::create_dir(&data).unwrap();
        let chowned = std::os::unix::fs::chown(&data, Some(one.uid), Some(one.gid)).is_ok();
        let two = allocate(&paths, &server, needs(&dir("two"))).unwrap();
        assert!(
            !chowned || two.uid != one.uid,
            "who owns data keeps the uid"
        );
        assert!(allocate(&paths, &server, needs(&dir("one"))).is_err());
    }

    #[test]
    fn what_is_used_up_is_told() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let server = Server {
            pool: "10.9.0.0/30".parse().unwrap(),
            ..Server::default()
        };
        let dir = |name: &str| paths.instance_state(name);
        allocate(&paths, &server, needs(&dir("one"))).unwrap();
        let error = allocate(&paths, &server, needs(&dir("two"))).unwrap_err();
        assert!(error.to_string().contains("10.9.0.0/30"), "{error}");
        assert!(error.hint().unwrap().contains("[server] pool"));
    }

    #[test]
    fn a_pool_of_ipv6_gives_a_second_address() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let pool = |text: &str| Server {
            pool6: Some(text.parse().unwrap()),
            ..Server::default()
        };
        let server = pool("fd12:3456:789a::/64");
        let dir = |name: &str| paths.instance_state(name);
        let given = |server: &Server, name: &str| {
            let given = allocate(&paths, server, needs(&dir(name))).unwrap();
            (given.address.unwrap().to_string(), given.address6)
        };
        let six = |text: &str| Some(text.parse().unwrap());
        // Who was there before gets one, too, and keeps the other.
        assert_eq!(given(&Server::default(), "one"), ("10.77.0.2".into(), None));
        for _ in 0..2 {
            let expected = ("10.77.0.2".into(), six("fd12:3456:789a::2"));
            assert_eq!(given(&server, "one"), expected);
        }
        assert_eq!(given(&server, "two").1, six("fd12:3456:789a::3"));
        assert_eq!(given(&pool("fd00:1::/64"), "one").1, six("fd00:1::2"));
        assert_eq!(given(&Server::default(), "one").1, None);
    }

    #[test]
    fn a_pool_that_moved_gives_a_new_address() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let dir = paths.instance_state("one");
        let before = allocate(&paths, &Server::default(), needs(&dir)).unwrap();
        let moved = Server {
            pool: "10.9.0.0/24".parse().unwrap(),
            ..Server::default()
        };
        let after = allocate(&paths, &moved, needs(&dir)).unwrap();
        assert_eq!(after.address, Some([10, 9, 0, 2].into()));
        assert_eq!(before.uid, after.uid);
    }
}
