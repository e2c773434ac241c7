//! `traffic [--rounds N] [--time MS] --serve NETNS --to ADDRESS:PORT NAME=NETNS ...`
//!
//! How much TCP gets from network namespaces (files, as `ip netns` makes them) to a server in another one: bytes a
//! second over one connection, and requests a second, a new connection for each. In every round each contender has its
//! turn, in random order; the first one is what the others are compared with. Prints medians, and the medians of the
//! ratios of each round: 1 means as much as the first one, less is slower.
//!
//! The server answers requests at PORT, and swallows bytes at the port after it.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lexopt::{Arg, Parser, ValueExt};
use metactl_benches::statistics::{Random, median, paired_ratios};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};

struct Options {
    rounds: usize,
    time: Duration,
    serve: PathBuf,
    to: SocketAddr,
    contenders: Vec<(String, PathBuf)>,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("traffic: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let (mut rounds, mut time) = (20, Duration::from_millis(100));
    let (mut serve, mut to, mut contenders) = (None, None, Vec::new());
    let text = |error: lexopt::Error| error.to_string();
    let mut parser = Parser::from_env();
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Arg::Long("rounds") => {
                rounds = parser.value().and_then(|v| v.parse()).map_err(text)?;
            }
            Arg::Long("time") => {
                let ms = parser.value().and_then(|v| v.parse()).map_err(text)?;
                time = Duration::from_millis(ms);
            }
            Arg::Long("serve") => serve = Some(PathBuf::from(parser.value().map_err(text)?)),
            Arg::Long("to") => to = Some(parser.value().and_then(|v| v.parse()).map_err(text)?),
            Arg::Value(word) => {
                let word = word.string().map_err(text)?;
                let (name, netns) = word
                    .rsplit_once('=')
                    .ok_or_else(|| format!("not NAME=NETNS: {word}"))?;
                contenders.push((name.to_owned(), PathBuf::from(netns)));
            }
            other => return Err(text(other.unexpected())),
        }
    }
    Ok(Options {
        rounds,
        time,
        serve: serve.ok_or("--serve is missing")?,
        to: to.ok_or("--to is missing")?,
        contenders,
    })
}

fn run(options: &Options) -> Result<(), String> {
    serve(&options.serve, options.to)?;
    let mut bytes: Vec<Vec<f64>> = vec![Vec::new(); options.contenders.len()];
    let mut requests = bytes.clone();
    let mut random = Random::new(7);
    // The first round warms up.
    for round in 0..=options.rounds {
        let mut order: Vec<usize> = (0..options.contenders.len()).collect();
        random.shuffle(&mut order);
        for at in order {
            let Some((name, netns)) = options.contenders.get(at) else {
                continue;
            };
            let (to, time) = (options.to, options.time);
            let measured = inside(netns, move || Ok((stream(to, time)?, ask(to, time)?)));
            let (streamed, asked) = measured.map_err(|error| format!("{name}: {error}"))?;
            if round > 0 {
                bytes
                    .get_mut(at)
                    .into_iter()
                    .for_each(|all| all.push(streamed));
                requests
                    .get_mut(at)
                    .into_iter()
                    .for_each(|all| all.push(asked));
            }
        }
    }
    println!(
        "{:32} {:>10} {:>7} {:>13} {:>7}",
        "", "Gbit/s", "ratio", "connections/s", "ratio"
    );
    let first = (bytes.first().cloned(), requests.first().cloned());
    let (Some(first_bytes), Some(first_requests)) = first else {
        return Err("nobody to compare".into());
    };
    let shown = |values: &[f64]| median(values).unwrap_or(f64::NAN);
    for ((name, _), (bytes, requests)) in options.contenders.iter().zip(bytes.iter().zip(&requests))
    {
        println!(
            "{name:32} {:>10.2} {:>7.3} {:>13.0} {:>7.3}",
            shown(bytes) * 8.0 / 1e9,
            shown(&paired_ratios(bytes, &first_bytes)),
            shown(requests),
            shown(&paired_ratios(requests, &first_requests)),
        );
    }
    Ok(())
}

/// Runs `work` on a thread that is in a network namespace.
fn inside<T: Send + 'static>(
    netns: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let netns = netns.to_owned();
    let thread = thread::spawn(move || {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        work()
    });
    let result = thread.join().map_err(|_| "a thread panicked".to_owned())?;
    result.map_err(|error| error.to_string())
}

/// Bytes a second.
fn stream(to: SocketAddr, time: Duration) -> std::io::Result<f64> {
    let to = SocketAddr::new(to.ip(), to.port() + 1);
    let mut connection = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    let block = vec![0; 256 * 1024];
    let (begun, mut sent) = (Instant::now(), 0u64);
    while begun.elapsed() < time {
        sent += connection.write(&block)? as u64;
    }
    Ok(sent as f64 / begun.elapsed().as_secs_f64())
}

/// Connections a second, each with one byte there and one back.
fn ask(to: SocketAddr, time: Duration) -> std::io::Result<f64> {
    let (begun, mut count) = (Instant::now(), 0u32);
    while begun.elapsed() < time {
        let mut connection = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        connection.write_all(b"?")?;
        connection.read_exact(&mut [0])?;
        // Ends with a reset: no port has to rest for a minute.
        let now = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&connection, sockopt::Linger, &now)?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// Both services, until the program ends.
fn serve(netns: &Path, at: SocketAddr) -> Result<(), String> {
    let (ready, is_ready) = mpsc::channel();
    let netns = netns.to_owned();
    thread::spawn(move || {
        let listen = || -> std::io::Result<(TcpListener, TcpListener)> {
            setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
            let next = SocketAddr::new(at.ip(), at.port() + 1);
            Ok((TcpListener::bind(at)?, TcpListener::bind(next)?))
        };
        let listening = listen();
        let _told = ready.send(listening.as_ref().map(drop).map_err(ToString::to_string));
        let Ok((requests, bytes)) = listening else {
            return;
        };
        thread::spawn(move || {
            for connection in bytes.incoming().flatten() {
                thread::spawn(move || swallow(connection));
            }
        });
        for mut connection in requests.incoming().flatten() {
            // Whoever went away needs no answer.
            if connection.read_exact(&mut [0]).is_ok() {
                let _gone = connection.write_all(b"!");
            }
        }
    });
    let told = is_ready.recv().map_err(|error| error.to_string())?;
    told.map_err(|error| format!("cannot listen on {at}: {error}"))
}

fn swallow(mut connection: TcpStream) {
    let mut block = vec![0; 256 * 1024];
    loop {
        match connection.read(&mut block) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
