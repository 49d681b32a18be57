#!/usr/bin/env bash
# Installs the servers that the tests start, from package registries alone, into the user's cache.
#
#   tests/setup/install.sh [component…]     all that tests need by default; a second when everything is there
#   tests/setup/install.sh flink streams    what only comparisons need
#   tests/setup/install.sh --can cluster    exit 0 if this machine can run the cluster tests, else says why not
#
# It starts nothing, and writes nothing outside the cache but Debian packages (as root only).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/millrace
bin=$cache/bin

kubernetes_version=1.34.2
go_version=1.24.9 # fetched only where Go is older than what Kubernetes needs
helm_version=3.18.4
coredns_version=1.12.4
kubeconform_version=0.7.0
kafka_version=4.1.0
opensearch_version=2.19.1.0
moto_version=5.2.5
checkov_version=3.3.30
flink_version=2.2.1
streams_version=4.1.1

components=(debian kubernetes helm coredns kubeconform pause kafka opensearch moto checkov)
components_on_demand=(flink streams)

# Command (or file) that tells whether it is there, and the Debian package that brings it.
debian_packages=(
  cc:gcc make:make cmake:cmake pkg-config:pkg-config /usr/include/openssl/ssl.h:libssl-dev git:git openssl:openssl
  javac:default-jdk-headless mvn:maven go:golang-go
  python3:python3 /usr/share/doc/python3-venv:python3-venv
)
debian_packages_cluster=(
  containerd:containerd runc:runc /usr/lib/cni/bridge:containernetworking-plugins etcd:etcd-server
  iptables:iptables conntrack:conntrack ip:iproute2 nsenter:util-linux mount:mount
)

say() { printf '%s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

# Packages of the list given whose command or file is missing.
missing() {
  local entry
  for entry; do
    case ${entry%%:*} in
      /*) [ -e "${entry%%:*}" ] ;;
      *) PATH=$PATH:/usr/sbin:/sbin command -v "${entry%%:*}" >/dev/null ;;
    esac || say "${entry#*:}"
  done
}

debian() {
  local wanted=("${debian_packages[@]}") packages
  can_cluster_kernel >/dev/null && wanted+=("${debian_packages_cluster[@]}")
  mapfile -t packages < <(missing "${wanted[@]}")
  [ ${#packages[@]} -gt 0 ] || return 0
  is_root && command -v apt-get >/dev/null || fail "install these packages first, or run as root on Debian 12: ${packages[*]}"
  say "debian: ${packages[*]}"
  # No service may start: a policy file says so for the time of the installation.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
  fi
  apt-get update -q >"$cache/log/debian.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" >>"$cache/log/debian.log" 2>&1 ||
    { tail -n 20 "$cache/log/debian.log" >&2; fail "apt-get failed"; }
}

# A Go that can build Kubernetes; Debian 12's own is older and only fetches it, as a module.
use_go() {
  local version
  version=$(go env GOVERSION 2>/dev/null) || fail "go is missing"
  if ! printf '%s\n' go1.24 "$version" | sort -V -C; then
    local module=golang.org/toolchain@v0.0.1-go$go_version.linux-$(go env GOARCH)
    GOFLAGS=-mod=mod go mod download "$module" 2>/dev/null || (cd "$(mktemp -d)" && go mod init fetch >/dev/null 2>&1 && go mod download "$module")
    GOROOT=$(go env GOMODCACHE)/$module
    chmod -R u+w "$GOROOT" && chmod +x "$GOROOT"/bin/* "$GOROOT"/pkg/tool/*/*
    export GOROOT PATH=$GOROOT/bin:$PATH
  fi
  export GOTOOLCHAIN=local
}

kubernetes() {
  use_go
  (cd "$here/kubernetes" && nice go build -trimpath -buildvcs=false -tags providerless -o "$bin/kubernetes" -ldflags \
    "-s -w -X k8s.io/component-base/version.gitVersion=v$kubernetes_version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34" .)
  local name
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    ln -sf kubernetes "$bin/$name"
  done
}

go_install() { (use_go; cd / && GOBIN=$bin nice go install -trimpath -ldflags "-s -w" "$1"); }
helm() { go_install "helm.sh/helm/v3/cmd/helm@v$helm_version"; }
coredns() { go_install "github.com/coredns/coredns@v$coredns_version"; }
kubeconform() { go_install "github.com/yannh/kubeconform/cmd/kubeconform@v$kubeconform_version"; }

pause() { cc -Os -static -s -Wall -o "$bin/pause" "$here/pause/pause.c"; }

jars() { # <folder of the pom> <target directory>
  rm -rf "$2"
  mvn -q -B -f "$here/$1/pom.xml" dependency:copy-dependencies -DoutputDirectory="$2/lib"
}
kafka() { jars kafka "$cache/kafka-$kafka_version"; }
opensearch() {
  local to=$cache/opensearch-$opensearch_version
  jars opensearch "$to"
  javac -d "$to/classes" -cp "$to/lib/*" "$here/opensearch/Node.java"
}

venv() { # <target directory> <requirement>
  rm -rf "$1"
  python3 -m venv "$1"
  "$1/bin/pip" install -q --disable-pip-version-check "$2"
}
moto() { venv "$cache/moto-$moto_version" "moto[server]==$moto_version"; }
checkov() { venv "$cache/checkov-$checkov_version" "checkov==$checkov_version"; }

# Maven has no Flink of one jar; this wheel carries the whole distribution (312 MB), of which the jars are kept, and of its plugins nothing.
flink() {
  local to=$cache/flink-$flink_version from
  if [ ! -d "$to/lib" ]; then
    from=$(mktemp -d)
    python3 -m venv "$from/venv"
    "$from/venv/bin/pip" download -q --disable-pip-version-check --no-deps --dest "$from" "apache-flink-libraries==$flink_version"
    python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith("pyflink/lib/")])' "$from"/*.whl "$from"
    # Moved into place when whole: what is there needs no second download when only the classes have changed.
    rm -rf "$to" "$to.unfinished"
    mkdir -p "$to.unfinished"
    mv "$from/pyflink/lib" "$to.unfinished/lib"
    mv "$to.unfinished" "$to"
    rm -rf "$from"
  fi
  mvn -q -B -f "$here/flink/pom.xml" dependency:copy-dependencies -DexcludeTransitive -DoutputDirectory="$to/kafka"
  rm -rf "$to/classes"
  javac -d "$to/classes" -cp "$to/lib/*" "$here"/flink/*.java
  cp "$here/flink/log4j2.properties" "$to/classes"
  mkdir -p "$to/classes/META-INF/services"
  cp "$here/flink/org.apache.flink.table.factories.Factory" "$to/classes/META-INF/services"
}

# Kafka Streams with the program that is measured.
streams() {
  local to=$cache/streams-$streams_version
  jars streams "$to"
  javac -d "$to/classes" -cp "$to/lib/*" "$here/streams/Drain.java"
}

# What a component is made from: if this is unchanged since it was installed, it is installed.
inputs() {
  local version=${1}_version
  say "$1 ${!version:-}"
  [ ! -d "$here/$1" ] || (cd "$here/$1" && sha256sum -- *)
}

install() {
  local component=$1 stamp=$cache/stamps/$1 key started=$SECONDS
  if [ "$component" = debian ]; then debian; return; fi
  key=$(inputs "$component")
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then return; fi
  rm -f "$stamp"
  say "installing $component …"
  # A subshell that is not part of a condition: there `set -e` would be ignored.
  ( set -e; "$component" ) >"$cache/log/$component.log" 2>&1 &
  wait $! || { tail -n 20 "$cache/log/$component.log" >&2; fail "$component failed; all of it is in $cache/log/$component.log"; }
  say "$key" >"$stamp"
  say "installed $component in $((SECONDS - started)) s"
}

can_cluster_kernel() {
  is_root || { say "not root"; return 1; }
  [ "$(uname -s)" = Linux ] || { say "not Linux"; return 1; }
  [ -d /sys/fs/cgroup/pids ] || [ -f /sys/fs/cgroup/cgroup.controllers ] || { say "no cgroups"; return 1; }
  unshare --net --mount --pid --fork true 2>/dev/null || { say "no right to make namespaces"; return 1; }
  # In a namespace of its own, so that nothing has to be removed.
  unshare --net ip link add millrace-try type bridge 2>/dev/null || { say "no right, or no kernel module, for a bridge"; return 1; }
  unshare --net ip link add millrace-try type veth 2>/dev/null || { say "no kernel module for veth"; return 1; }
}
can_cluster() {
  can_cluster_kernel || return 1
  local packages
  packages=$(missing "${debian_packages_cluster[@]}")
  [ -z "$packages" ] || { say "missing packages: $packages"; return 1; }
  unshare --net iptables -t nat -L >/dev/null 2>&1 || { say "iptables does not work"; return 1; }
}

if [ "${1:-}" = --can ]; then
  [ "${2:-}" = cluster ] || fail "--can takes: cluster"
  can_cluster
  exit
fi

mkdir -p "$bin" "$cache/log" "$cache/stamps"
exec 9>"$cache/stamps/.lock"
flock 9 # two installations at once would build everything twice

[ $# -gt 0 ] || set -- "${components[@]}"
for component; do
  [[ " ${components[*]} ${components_on_demand[*]} " == *" $component "* ]] || fail "no component $component; there are: ${components[*]} ${components_on_demand[*]}"
  install "$component"
done
why=$(can_cluster) || say "install: THIS MACHINE CANNOT RUN THE CLUSTER TESTS ($why); they will be counted as skipped"
