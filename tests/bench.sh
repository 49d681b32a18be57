#!/usr/bin/env bash
# Goal and measured side by side, of release builds: CPU of the decoders, bytes of state for each key, images, memory and start times; from Kafka to Kafka and
# to Parquet beside Kafka Streams and Flink, and latency; the gaps of killed and rescaled workers in the cluster; and all of Nexmark beside Flink. Leaves out,
# and says so, what a machine cannot do.
#
#   tests/bench.sh             prints; the first run compiles everything with full optimisation, and installs the rivals
#   tests/bench.sh FILE        and writes the same to FILE, as Markdown; Nexmark's table to nexmark.md beside it
#   RUNS=…                     rounds of each engine, in turn (3)
#   SECONDS_IN_CLUSTER=…       how long the cluster is under load while workers are killed (600)
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/millrace
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target} MILLRACE_TEST_PROFILE=release
runs=${RUNS:-3}

tests/setup/install.sh kafka moto flink streams

# Everything by one selection of packages: another one has other features, and would compile the dependencies once more.
cargo build --quiet --release --workspace --bins

# Latency first: it is what a machine that has worked for long, or works beside, spoils.
measure() {
  echo '# Measured'
  echo
  echo "By \`make bench\` on $(date -u +%F), commit $(git rev-parse --short HEAD): $(nproc) cores of $(awk -F': ' '/^model name/ {print $2; exit}' /proc/cpuinfo),"
  echo "$(uname -s) $(uname -r), load $(cut -d' ' -f1 /proc/loadavg) before it began; $(rustc --version)."
  echo
  echo '```text'
  "$CARGO_TARGET_DIR/release/millrace-drain" --runs "$runs" --only L1,L3,L4
  "$CARGO_TARGET_DIR/release/millrace-drain" --runs "$runs" --only T3,T4,T5
  cargo bench --quiet --workspace --bench cloudfront --bench json
  "$CARGO_TARGET_DIR/release/millrace-bench"
  if [ "$(id -u)" = 0 ]; then
    tests/setup/install.sh debian kubernetes helm coredns pause >&2
    MILLRACE_TEST_SECONDS=${SECONDS_IN_CLUSTER:-600} "$CARGO_TARGET_DIR/release/millrace-endurance"
  else
    echo 'R1, R2: NOT MEASURED, a cluster needs root'
  fi
  echo '```'
}

measure | tee ${1:+"$1"}
"$CARGO_TARGET_DIR/release/millrace-nexmark" --bench --runs "$runs" ${1:+--write "$(dirname "$1")/nexmark.md"}
