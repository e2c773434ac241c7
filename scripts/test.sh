#!/bin/bash
# test.sh quick|all: what 'make check' and 'make test' do.
#
#   quick  format, lints, unit tests and the quick integration tests; minutes
#   all    that, the documentation, the slow tests (virtual machine, whole deployments), and the proof
#          that nothing is left behind on this machine
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$REPO"
tier=${1:?quick or all}
begun=$(now)

case $tier in
  quick) scripts/prerequisites.sh check ;;
  all) scripts/prerequisites.sh test ;;
  *) die "no such tier: $tier" ;;
esac

failed=()
# Everything is run, whatever failed before, and the failures are named at the end.
part() { step "$@" || failed+=("$1"); }

# The tests print as they go: their lines are the report.
run_tests() {
  local start=$(now)
  echo "  · $1: $2"
  shift 2
  "$@" </dev/null || failed+=(tests)
  echo "    tests took $(took "$start")"
}

echo "metactl: ${STRONG}make $([[ $tier == all ]] && echo test || echo check)${PLAIN}"
before=$(mktemp "${TMPDIR:-/tmp}/metactl-leftovers.XXXXXX")
export METACTL_SKIPS=$before.skips
trap 'rm -f "$before" "$METACTL_SKIPS"' EXIT
scripts/leftovers.sh snapshot "$before"

part format "cargo fmt --check" as_person cargo fmt --all --check
# cargo fmt does not see the modules that bundles/build.rs lists.
part format-platforms "rustfmt --check bundles/src/platforms" \
  as_person rustfmt --edition 2024 --check bundles/src/platforms/*.rs
part lint "cargo clippy, warnings are errors" \
  as_person cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
if [[ $tier == all ]]; then
  part docs "cargo doc, warnings are errors" \
    as_person env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet
fi
# What the end-to-end tests run: in full what people install, quickly what is built quickly.
if [[ $tier == all ]]; then
  part build "the release build: a static runtime beside metactl" scripts/build.sh
  built=$(target_dir)/metactl
  export METACTL_BIN=$built/metactl METACTL_RUNTIME_BIN=$built/metactl-runtime
else
  part build "the programs that the tests run" as_person cargo build --workspace --bins --locked --quiet
fi

# Without the programs there is nothing to test; what is only badly written can be tested all the same.
if [[ " ${failed[*]} " != *" build "* ]]; then
  # Tests that need root skip themselves without it, and say so; so they run as who started this.
  if cargo nextest --version >/dev/null 2>&1; then
    profile=$([[ $tier == all ]] && echo all || echo quick)
    run_tests nextest "profile $profile, see .config/nextest.toml" \
      cargo nextest run --workspace --locked --profile "$profile" --no-fail-fast
    if [[ $tier == all ]]; then
      # Older kernels: the runtime's tests again, with system calls taken away (docs/kernels.md). The whole workspace is
      # named so that what has been built for the tests before is what runs.
      for calls in everything mount_setattr; do
        run_tests "without $calls" "the runtime on a kernel without that" \
          env METACTL_TEST_WITHOUT="$calls" cargo nextest run --workspace --locked --profile all --no-fail-fast \
          -E 'package(metactl-runtime) & kind(test) & not (test(/slow/) | binary(/slow/))'
      done
    fi
    run_tests doctests "the examples in the documentation" cargo test --workspace --locked --doc --quiet
  else
    skip=()
    [[ $tier == all ]] || skip=(-- --skip slow)
    run_tests cargo "cargo test" cargo test --workspace --locked --no-fail-fast "${skip[@]}"
  fi
  if [[ $tier == all ]]; then
    part fuzz "config.json, layers of configuration, destinations and DNS messages, a minute each" as_person scripts/fuzz.sh 60
    code=0
    step systemd "instances kept running by real systemd with cgroup v1" tests/vm/namespaces.sh || code=$?
    ((code == 0 || code == 77)) || failed+=(systemd)
    code=0
    step upstart "instances kept running by a real Upstart, where one is named" tests/vm/upstart.sh || code=$?
    ((code == 0 || code == 77)) || failed+=(upstart)
    # The virtual machine has one processor: the packages are built beside it, and told after it.
    beside=$(mktemp "${TMPDIR:-/tmp}/metactl-packages.XXXXXX")
    (LIVE= && step packages "deb, rpm and tar; the deb installed and purged in a clean root" tests/package/run.sh) \
      >"$beside" 2>&1 &
    packages=$!
    code=0
    step vm "metactl under real systemd with unified cgroup v2" tests/vm/run.sh || code=$?
    # 77: it cannot be run here, and has said why.
    ((code == 0 || code == 77)) || failed+=(vm)
    code=0
    wait "$packages" || code=$?
    cat "$beside" && rm "$beside"
    ((code == 0 || code == 77)) || failed+=(packages)
  fi
fi

echo "  · leftovers"
scripts/leftovers.sh compare "$before" | sed 's/^/    /' || failed+=(leftovers)

if [[ -s $METACTL_SKIPS ]]; then
  echo "  · skipped, because this machine lacks something:"
  sort "$METACTL_SKIPS" | sed 's/^/    /'
fi
if ((${#failed[@]} > 0)); then
  die "failed: ${failed[*]} (after $(took "$begun"))"
fi
echo "${GOOD}all passed${PLAIN} in $(took "$begun")"
if [[ $tier == quick ]]; then
  echo "Next: make test (everything), make demo"
else
  echo "Next: make demo, or read docs/architecture.md and change something"
fi
