#!/usr/bin/env bash
# Everything that can be tested on this machine, in phases: install, lint, unit, servers, cluster.
#
#   tests/run.sh [phase…]      all phases by default
#
# The last line is `N passed, N failed`, with `, N skipped` if this machine cannot run some; it fails if anything did.
# It never stops what it did not start: a cluster that is running is used and stays.
set -uo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/millrace
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export CARGO_TERM_COLOR=never RUST_BACKTRACE=${RUST_BACKTRACE_IN_TESTS:-0}
logs=$cache/log
mkdir -p "$logs"
passed=0 failed=0 skipped=0

say() { printf '%s\n' "$*"; }

# The targets of tests/Cargo.toml that `cargo test` leaves out; those for the cluster by their name.
targets() { awk -F'"' '/^\[\[test\]\]/ {name = ""} /^name =/ {name = $2} /^test = false/ && name {print name}' tests/Cargo.toml; }
targets_servers() { targets | grep -v '^cluster'; }
targets_cluster() { targets | grep '^cluster'; }

# A check that passes or fails as a whole.
check() { # <name> <command…>
  local name=$1 log=$logs/check-$1.log
  shift
  if "$@" >"$log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    say "$name FAILED:"
    tail -n 60 "$log"
  fi
}

# `cargo test` with these arguments; adds up what it reports.
cargo_test() { # <name> <argument…>
  local log=$logs/test-$1.log status before
  shift
  cargo test --no-fail-fast "$@" >"$log" 2>&1
  status=$?
  before=$failed
  read -r passed failed skipped < <(awk -v passed=$passed -v failed=$failed -v skipped=$skipped '
    /^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed;/) passed += $(i-1); if ($i ~ /^failed;/) failed += $(i-1); if ($i ~ /^ignored;/) skipped += $(i-1) } }
    END { print passed, failed, skipped }' "$log")
  [ $status -eq 0 ] && return
  # It may have failed without a failed test: it did not compile, or a test ended the process.
  [ "$failed" -gt "$before" ] || failed=$((failed + 1))
  say "FAILED; the whole log is $log"
  grep -E '^(test .* FAILED|error)' "$log"
  awk '/^failures:$/ {on = !seen; seen = 1} /^test result:/ {on = seen = 0} on' "$log" | head -n 400
}

install() {
  tests/setup/install.sh || { say "the installation FAILED: the tests that need it will fail"; failed=$((failed + 1)); }
}

lint() {
  check format cargo fmt --all --check
  check clippy cargo clippy --quiet --workspace --all-targets -- -D warnings
}

unit() { cargo_test unit --workspace; }

named() { sed 's/^/--test=/'; }

servers() {
  local names
  mapfile -t names < <(targets_servers | named)
  [ ${#names[@]} -eq 0 ] || cargo_test servers --workspace "${names[@]}"
}

cluster() {
  local names why servers=$CARGO_TARGET_DIR/debug/millrace-servers started=
  mapfile -t names < <(targets_cluster | named)
  [ ${#names[@]} -gt 0 ] || return 0
  if [ -z "${MILLRACE_TEST_KUBECONFIG:-${KUBECONFIG:-}}" ]; then
    if ! why=$(tests/setup/install.sh --can cluster); then
      local count
      count=$(cargo test --quiet --workspace "${names[@]}" -- --list --format=terse 2>/dev/null | grep -c ': test$')
      say "THIS MACHINE CANNOT RUN A CLUSTER: $why. $count tests are skipped."
      skipped=$((skipped + count))
      return
    fi
    # One cluster for all targets: each would start its own otherwise.
    check cluster-build cargo build --quiet --workspace --bins
    # Not `grep -q`, which stops listening: the pipe would break, and a broken pipe counts as a running cluster.
    if "$servers" status | grep '^cluster *-$' >/dev/null; then
      started=yes
      trap '"$servers" down cluster' EXIT
      "$servers" up cluster >"$logs/cluster-up.log" 2>&1 || { say "the cluster does not start:"; cat "$logs/cluster-up.log"; }
    fi
  fi
  cargo_test cluster --workspace "${names[@]}"
  if [ -n "$started" ]; then
    "$servers" down cluster || failed=$((failed + 1))
    trap - EXIT
  fi
}

[ $# -gt 0 ] || set -- install lint unit servers cluster
for phase; do
  case $phase in
    install | lint | unit | servers | cluster) ;;
    *) say "no phase $phase" >&2; exit 2 ;;
  esac
  say "== $phase"
  began=$SECONDS
  "$phase"
  say "== $phase took $((SECONDS - began)) s; so far $passed passed, $failed failed, $skipped skipped"
done
say "$passed passed, $failed failed$([ $skipped -eq 0 ] || printf ', %d skipped' $skipped)"
[ "$failed" -eq 0 ]
