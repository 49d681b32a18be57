#!/usr/bin/env bash
# Goal and measured side by side, of release builds: CPU of the decoders, bytes of state for each key, images, memory and start times, from Kafka to Kafka and
# to Parquet beside Kafka Streams and Flink, and all of Nexmark beside Flink. Measures in the cluster only where one can be run. About an hour on two cores.
#
#   tests/bench.sh             prints; the first run compiles everything with full optimisation, and installs the rivals
#   tests/bench.sh FILE        and writes the same to FILE, as Markdown; Nexmark's table to nexmark.md beside it
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/millrace
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target} MILLRACE_TEST_PROFILE=release

tests/setup/install.sh kafka moto flink streams

# Everything by one selection of packages: another one has other features, and would compile the dependencies once more.
cargo build --quiet --release --workspace --bins

measure() {
  echo '# Measured'
  echo
  echo "By \`make bench\` on $(date -u +%F), commit $(git rev-parse --short HEAD): $(nproc) cores of $(awk -F': ' '/^model name/ {print $2; exit}' /proc/cpuinfo),"
  echo "$(uname -s) $(uname -r), load $(cut -d' ' -f1 /proc/loadavg) before it began; $(rustc --version)."
  echo
  echo '```text'
  cargo bench --quiet --workspace --bench cloudfront --bench json
  "$CARGO_TARGET_DIR/release/millrace-bench"
  "$CARGO_TARGET_DIR/release/millrace-drain"
  echo '```'
}

measure | tee ${1:+"$1"}
"$CARGO_TARGET_DIR/release/millrace-nexmark" --bench ${1:+--write "$(dirname "$1")/nexmark.md"}
