//! The network of a sandbox: planning it, and making it, beside rtnetlink.
//!
//! What changes something happens in a network namespace of the benchmark's own.

use criterion::{Criterion, criterion_group, criterion_main};
use metactl_benches::sample;
use metactl_bundles::network::{
    Entry, FORMAT, Mode, NetworkSpec, Peer, Policy, PortRange, Protocol, Verdict,
};
use metactl_netns::facts::{self, HostFacts, Uplink};
use metactl_netns::plan::{LinkIds, NetPlan, plan};
use metactl_netns::{Resolved, apply::apply, server};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

/// The kernel buries a namespace in the background; the next measurement waits for that.
const PAUSE: Duration = Duration::from_millis(30);

fn spec(entries: u16) -> NetworkSpec {
    let entry = |n: u16| Entry {
        name: format!("peer{n}"),
        peer: Peer::Net(std::net::IpAddr::from([10, 1, (n >> 8) as u8, n as u8]).into()),
        ports: vec![PortRange {
            first: 3000 + n,
            last: 3000 + n,
        }],
        protocol: Some(Protocol::Tcp),
    };
    NetworkSpec {
        format: FORMAT,
        instance: "bench".to_owned(),
        mode: Mode::Routed,
        addresses: vec![sample::ADDRESS],
        pool: None,
        pool6: None,
        publish: Vec::new(),
        apart: false,
        out: Policy {
            policy: Verdict::Reject,
            accept: (0..entries).map(entry).collect(),
            reject: Vec::new(),
        },
        inbound: Policy {
            policy: Verdict::Accept,
            accept: Vec::new(),
            reject: Vec::new(),
        },
    }
}

fn planning(c: &mut Criterion) {
    let facts = HostFacts {
        uplinks: vec![Uplink {
            name: "eth0".to_owned(),
            index: 2,
            mtu: 1500,
            ..Uplink::default()
        }],
        has_ipv4: true,
        ipv6: true,
        force_forwarding: true,
        accept_ra: Vec::new(),
    };
    let ids = LinkIds {
        generation: "ab12".to_owned(),
        pid: Some(4711),
    };
    let mut group = c.benchmark_group("network plan");
    for entries in [10, 1000] {
        let spec = spec(entries);
        group.bench_function(format!("{entries} accept entries"), |b| {
            b.iter(|| black_box(plan(&spec, &Resolved::new(), &facts, &ids)).is_ok());
        });
    }
    group.finish();
}

/// A new network namespace, held by its file only.
fn namespace() -> io::Result<File> {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    });
    made.join()
        .map_err(|_| io::Error::other("the thread ended early"))?
}

/// Measure one thing in a new namespace, as often as criterion wants.
fn in_namespaces(
    rounds: u64,
    mut one: impl FnMut(&File) -> Result<Duration, String>,
) -> Result<Duration, String> {
    let mut sum = Duration::ZERO;
    for _ in 0..rounds {
        let namespace = namespace().map_err(|error| error.to_string())?;
        sum += one(&namespace)?;
        drop(namespace);
        thread::sleep(PAUSE);
    }
    Ok(sum)
}

fn ours(namespace: &File, facts: &HostFacts, spec: &NetworkSpec) -> Result<Duration, String> {
    let state = tempfile::tempdir().map_err(|error| error.to_string())?;
    let start = Instant::now();
    let plan: NetPlan = plan(spec, &Resolved::new(), facts, &LinkIds::fresh(None))
        .map_err(|error| error.to_string())?;
    apply(&plan, namespace.as_fd(), state.path(), "bench").map_err(|error| error.to_string())?;
    let taken = start.elapsed();
    server::release(state.path(), "bench").map_err(|error| error.to_string())?;
    Ok(taken)
}

/// The pair, address and routes only, with rtnetlink: no firewall, no neighbours, no sysctls.
fn theirs(namespace: &File, home: &File, name: &str) -> Result<Duration, String> {
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let done = runtime.block_on(async {
        let outside = connect()?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
        let inside = connect();
        setns(home, CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
        pair(&outside, &inside?, namespace, name)
            .await
            .map_err(|error| error.to_string())
    });
    let taken = start.elapsed();
    done.map(|()| taken)
}

fn connect() -> Result<Handle, String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn pair(
    outside: &Handle,
    inside: &Handle,
    namespace: &File,
    name: &str,
) -> Result<(), rtnetlink::Error> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0".to_owned())
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let veth = LinkVeth::new(name, "eth0").set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    outside.link().add(veth.build()).execute().await?;
    let outer = index(outside, name).await?;
    let inner = index(inside, "eth0").await?;
    let up = |index| LinkUnspec::new_with_index(index).up().build();
    outside.link().set(up(outer)).execute().await?;
    inside.link().set(up(inner)).execute().await?;
    inside
        .address()
        .add(inner, sample::ADDRESS, 32)
        .execute()
        .await?;
    let to_sandbox = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::new(198, 51, 100, 77), 32)
        .output_interface(outer)
        .build();
    // The route of the last round can still be there: its device dies with its namespace, later.
    outside.route().add(to_sandbox).replace().execute().await?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .output_interface(inner)
        .build();
    inside.route().add(default).execute().await
}

async fn index(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    use futures_util::TryStreamExt;
    let found = handle.link().get().match_name(name.to_owned()).execute();
    let link = std::pin::pin!(found).try_next().await?;
    link.map(|link| link.header.index)
        .ok_or(rtnetlink::Error::RequestFailed)
}

fn making(c: &mut Criterion) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP making a network: needs root");
        return;
    }
    // From here on this process has a network of its own.
    let ready = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| error.to_string())
        .and_then(|()| File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string()))
        .and_then(|home| {
            Ok((
                home,
                facts::gather(None).map_err(|error| error.to_string())?,
            ))
        });
    let (home, facts) = match ready {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("SKIP making a network: {error}");
            return;
        }
    };
    let mut group = c.benchmark_group("network");
    group.sample_size(20).warm_up_time(Duration::from_secs(1));
    let mut failed = None;
    let mut run = |name: &str, one: &mut dyn FnMut(&File) -> Result<Duration, String>| {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                in_namespaces(rounds, &mut *one).unwrap_or_else(|error| {
                    failed.get_or_insert(error);
                    Duration::from_nanos(1)
                })
            });
        });
    };
    for entries in [0, 10] {
        let spec = spec(entries);
        run(
            &format!("whole, {entries} accept entries"),
            &mut |namespace| ours(namespace, &facts, &spec),
        );
    }
    let mut unique = 0;
    run(
        "rtnetlink, pair, address and routes only",
        &mut |namespace| {
            unique += 1;
            theirs(namespace, &home, &format!("r{unique}"))
        },
    );
    group.finish();
    if let Some(error) = failed {
        eprintln!("FAILED, figures of it mean nothing: {error}");
    }
}

criterion_group!(benches, planning, making);
criterion_main!(benches);
