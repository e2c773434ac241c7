//! Compiling seccomp profiles, beside seccompiler, and how long the programs are.

use criterion::{Criterion, criterion_group, criterion_main};
use metactl_bundles::seccomp::default_profile;
use metactl_runtime::seccomp::{compile, native};
use oci_spec::runtime::LinuxSeccomp;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::hint::black_box;

/// As many calls as the usual profile of containers allows.
const CALLS: i64 = 302;

/// A profile that allows calls by number 0 to 334 in runs of nine, so that there is a gap now and
/// then as in real profiles.
fn numbers() -> impl Iterator<Item = i64> {
    (0..335)
        .filter(|number| number % 10 != 9)
        .take(CALLS as usize)
}

/// The same as a section of config.json. The names come from the kernel's list in the default
/// profile, as many as there are.
fn long_section(default: &LinuxSeccomp) -> Option<LinuxSeccomp> {
    let names: Vec<String> = default
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|rule| rule.names().iter().cloned())
        .take(CALLS as usize)
        .collect();
    let json = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    });
    serde_json::from_value(json).ok()
}

fn seccomp(c: &mut Criterion) {
    let (Ok(profile), Ok(arch)) = (default_profile(), native()) else {
        eprintln!("SKIP seccomp: no profile for this architecture");
        return;
    };
    let Some(long) = long_section(&profile) else {
        eprintln!("SKIP seccomp: the long profile is not understood");
        return;
    };
    let mut group = c.benchmark_group("seccomp");
    for (name, section) in [("the default profile", &profile), ("one long list", &long)] {
        if let Ok(filter) = compile(section, arch) {
            eprintln!("{name}: {} instructions", filter.instructions.len());
        }
        group.bench_function(name, |b| {
            b.iter(|| black_box(compile(section, arch)).is_ok())
        });
    }
    let rules: BTreeMap<i64, _> = numbers().map(|number| (number, Vec::new())).collect();
    let theirs = || -> Option<BpfProgram> {
        let filter = SeccompFilter::new(
            rules.clone(),
            SeccompAction::Errno(1),
            SeccompAction::Allow,
            TargetArch::x86_64,
        );
        filter.ok()?.try_into().ok()
    };
    if let Some(program) = theirs() {
        eprintln!("seccompiler, {CALLS} calls: {} instructions", program.len());
    }
    group.bench_function("seccompiler, 302 calls", |b| {
        b.iter(|| black_box(theirs()).is_some())
    });
    group.finish();
}

criterion_group!(benches, seccomp);
criterion_main!(benches);
