//! The configuration of many instances, and one bundle, to be compared with what others need:
//!
//! * `many-layers make DIRECTORY COUNT`: writes four layers for each of COUNT instances, and prints
//!   the files of each, a line an instance;
//! * `many-layers read DIRECTORY COUNT`: reads, merges, interpolates and checks all of them in one thread, and
//!   makes the model of each; prints the microseconds of CPU that one took, and the peak of memory in KiB;
//! * `many-layers all DIRECTORY COUNT`: the same with all processors; prints the microseconds that passed for
//!   one, those of CPU, and the number of processors;
//! * `many-layers read-layers`, `many-layers all-layers`: the same without the model, as commands do it that
//!   look at all instances of a server;
//! * `many-layers floor DIRECTORY COUNT`: what nobody gets below: opens the same files, reads them into
//!   one buffer and closes them; and once more, also splitting them into lines. Prints the
//!   microseconds of CPU that one instance took in each;
//! * `many-layers bundle DIRECTORY ROUNDS`: materializes a bundle, copies it with `cp`, and prints the
//!   medians in milliseconds and their ratio.
//!
//! See `benches/side-by-side/configuration.sh`.

#![forbid(unsafe_code)]

use metactl_benches::{sample, statistics};
use metactl_bundles::bundle;
use metactl_bundles::diagnostics::Report;
use metactl_bundles::layers::{self, Config, Reader, Request, Source};
use metactl_bundles::model;
use metactl_bundles::paths::Paths;
use metactl_bundles::view::HostView;
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// An application as the design notes have it.
const APP: &str = "\
# What every instance has.
[env]
JOB_MANAGER_PORT = 9000
GREETING = Hello from %(SITE_NAME)

[daemon.webapp]
platform = jetty9
jvm.heap.max = 256m
port = 8080
stop.timeout = 20s

[daemon.jobmanager]
platform = jvm
jvm.jar = jobmanager.jar %(JOB_MANAGER_PORT) --database %(DB_URL)
jvm.heap.max = 128m
after = webapp

[crontab]
daily housekeeping = 5 0 * * * curl http://localhost/housekeeping
harvest data on mondays = 10 0 * * 1 java -jar harvest.jar

[firewall.out]
policy = reject

[firewall.out.accept]
database = %(DB_HOST):%(DB_PORT)
testlan = 10.1.1.0/24
";

const SITE: &str = "\
[env]
SITE_NAME = production
DB_HOST = mysql-prod.example.org
DB_PORT = 3306
DB_URL = mysql://myapp:secret@%(DB_HOST):%(DB_PORT)/myapp

[build]
repo = https://git.example.org/myapp.git
tag = 1.2.3

[sandbox.limits]
memory = 1g
";

const SERVER: &str = "\
[server]
site = prod
pool = 10.77.0.0/16

[daemon.*]
jvm.home = /usr/lib/jvm/java-17-openjdk-amd64
limits.files = 4096

[env]
TZ = Australia/Canberra
";

fn local(index: usize) -> String {
    format!(
        "[env]\n# change port because 9000 is already taken on this server\nJOB_MANAGER_PORT = {}\n\n\
         [sandbox.net]\nip = 10.{}.{}.{}\n\n[firewall.out.accept]\nproxy = 10.2.0.1:3128,8080/tcp\n",
        10_000 + index % 50_000,
        20 + index / 65_000,
        index / 250 % 250,
        index % 250 + 1,
    )
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [verb, directory, count] = words.as_slice() else {
        eprintln!(
            "usage: many-layers make|read|all|read-layers|all-layers|floor|bundle DIRECTORY COUNT"
        );
        return ExitCode::from(64);
    };
    let directory = Path::new(directory);
    let result = match (verb.as_str(), count.parse()) {
        ("make", Ok(count)) => make(directory, count),
        ("read", Ok(count)) => read(directory, count, load),
        ("all", Ok(count)) => read_all(directory, count, load),
        ("read-layers", Ok(count)) => read(directory, count, check),
        ("all-layers", Ok(count)) => read_all(directory, count, check),
        ("floor", Ok(count)) => floor(directory, count),
        ("bundle", Ok(count)) => materialize(directory, count),
        _ => Err("what to do, and a number".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("many-layers: {message}");
            ExitCode::FAILURE
        }
    }
}

fn name(index: usize) -> String {
    format!("app{index}")
}

fn app_layer(directory: &Path, index: usize) -> PathBuf {
    directory.join("apps").join(name(index)).join(".metactl")
}

fn make(directory: &Path, count: usize) -> Result<(), String> {
    let paths = Paths::under(directory);
    let write = |path: &Path, text: &str| {
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(path, text))
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    write(&paths.server_conf(), SERVER)?;
    for index in 0..count {
        let name = name(index);
        let [_, site] = paths.site_layers("prod", &name);
        let app = app_layer(directory, index);
        write(&app, APP)?;
        write(&site, SITE)?;
        write(&paths.local_layer(&name), &local(index))?;
        println!(
            "{}\t{}\t{}\t{}",
            app.display(),
            site.display(),
            paths.server_conf().display(),
            paths.local_layer(&name).display()
        );
    }
    Ok(())
}

/// The instances and the files of their app layers. configparser has its list of files, too, before time
/// is taken.
fn instances(directory: &Path, count: usize) -> Vec<(String, PathBuf)> {
    let named = |index| (name(index), app_layer(directory, index));
    (0..count).map(named).collect()
}

fn requests(instances: &[(String, PathBuf)]) -> impl Iterator<Item = Request<'_>> {
    instances.iter().map(|(instance, app_layer)| Request {
        instance,
        app_layer: Some(app_layer),
    })
}

/// What is done with the layers of an instance.
type Look = fn(&Request<'_>, Result<Vec<Source>, Report>) -> Result<(), String>;

fn read(directory: &Path, count: usize, look: Look) -> Result<(), String> {
    let paths = Paths::under(directory);
    let instances = instances(directory, count);
    let before = cpu()?;
    let reader = Reader::new(&paths).map_err(|report| report.to_string())?;
    for request in requests(&instances) {
        look(&request, reader.read(&request))?;
    }
    let spent = cpu()? - before;
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|error| error.to_string())?;
    println!("{:.2} {}", spent / count.max(1) as f64, usage.max_rss());
    Ok(())
}

fn load(request: &Request<'_>, sources: Result<Vec<Source>, Report>) -> Result<(), String> {
    let loaded = sources.and_then(|sources| model::load(sources, request.instance));
    black_box(loaded.map_err(|report| report.to_string())?);
    Ok(())
}

/// Everything but the model.
fn check(_: &Request<'_>, sources: Result<Vec<Source>, Report>) -> Result<(), String> {
    let config = sources.and_then(Config::from_sources);
    black_box(config.map_err(|report| report.to_string())?);
    Ok(())
}

fn read_all(directory: &Path, count: usize, look: Look) -> Result<(), String> {
    let paths = Paths::under(directory);
    let instances = instances(directory, count);
    let requests: Vec<Request<'_>> = requests(&instances).collect();
    let (begin, before) = (Instant::now(), cpu()?);
    let all = layers::of_all(&paths, &requests, look);
    all.into_iter().collect::<Result<(), String>>()?;
    let (passed, spent) = (begin.elapsed().as_secs_f64() * 1e6, cpu()? - before);
    let (count, processors) = (count.max(1) as f64, std::thread::available_parallelism());
    let processors = processors.map_or(1, usize::from);
    println!("{:.2} {:.2} {processors}", passed / count, spent / count);
    Ok(())
}

fn floor(directory: &Path, count: usize) -> Result<(), String> {
    let whole = files(directory, count, |_| ())?;
    let split = files(directory, count, |text| {
        // What a parser has to look at in any case: how a line begins, and where its `=` is.
        for line in text.split(|byte| *byte == b'\n') {
            black_box((line.first(), line.iter().position(|byte| *byte == b'=')));
        }
    })?;
    println!("{whole:.2} {split:.2}");
    Ok(())
}

/// The microseconds of CPU that it takes to read the files which differ from instance to instance, one
/// instance, when `look` is all that is done with their texts.
fn files(directory: &Path, count: usize, look: impl Fn(&[u8])) -> Result<f64, String> {
    let paths = Paths::under(directory);
    let own = |(name, app_layer): (String, PathBuf)| {
        let [_, site] = paths.site_layers("prod", &name);
        [app_layer, site, paths.local_layer(&name)]
    };
    let mut buffer = vec![0; 64 * 1024];
    let all: Vec<[PathBuf; 3]> = instances(directory, count).into_iter().map(own).collect();
    let before = cpu()?;
    for files in all {
        for path in files {
            let read = File::open(&path).and_then(|mut file| file.read(&mut buffer));
            let length = read.map_err(|error| format!("{}: {error}", path.display()))?;
            look(black_box(&buffer[..length]));
        }
    }
    Ok((cpu()? - before) / count.max(1) as f64)
}

/// The CPU that this process used so far, in microseconds.
fn cpu() -> Result<f64, String> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|error| error.to_string())?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

fn materialize(directory: &Path, rounds: usize) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let release = directory.join("release");
    fs::create_dir_all(&release).map_err(text)?;
    let config = sample::config().map_err(|report| report.to_string())?;
    let app = sample::app(&config, "noop").map_err(|report| report.to_string())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let state = directory.join(format!("state{round}"));
        let mut place = sample::placement("noop", &state, &release);
        // Who runs this is the owner of the data.
        place.uid = nix::unistd::geteuid().as_raw();
        place.gid = nix::unistd::getegid().as_raw();
        let begin = Instant::now();
        let host = HostView::gather(&app, &place);
        let composition =
            bundle::compose(&app, &config, &place, &host).map_err(|error| error.to_string())?;
        let written = bundle::write(&composition, &state).map_err(|error| error.to_string())?;
        ours.push(begin.elapsed().as_secs_f64() * 1e3);
        let copy = directory.join(format!("copy{round}"));
        let begin = Instant::now();
        let status = Command::new("cp")
            .arg("-a")
            .args([&written.dir, &copy])
            .status()
            .map_err(text)?;
        theirs.push(begin.elapsed().as_secs_f64() * 1e3);
        if !status.success() {
            return Err(format!("cp ended with {status}"));
        }
        fs::remove_dir_all(&state).map_err(text)?;
        fs::remove_dir_all(&copy).map_err(text)?;
    }
    let ratios = statistics::paired_ratios(&ours, &theirs);
    let middle = |values: &[f64]| statistics::median(values).unwrap_or_default();
    println!(
        "{:.2} {:.2} {:.2}",
        middle(&ours),
        middle(&theirs),
        middle(&ratios)
    );
    Ok(())
}
