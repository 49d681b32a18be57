#!/bin/sh
# What is in an image of Millrace: one program and what it cannot run without. It adds no shell and no package manager.
#
#   tests/images/rootfs.sh <program> <empty folder>
#
# Both ways to make an image run it: the Dockerfiles in their first stage, and `make images` where there is no Docker.
set -eu
program=$1
root=$2

add() { # <file> <mode>: at the same path as here, links resolved
  mkdir -p "$root$(dirname "$1")"
  cp -L "$1" "$root$1"
  chmod "$2" "$root$1"
}

mkdir -p "$root/usr/local/bin" "$root/etc" "$root/tmp"
chmod 1777 "$root/tmp"
name=$(basename "$program")
cp "$program" "$root/usr/local/bin/$name"
strip "$root/usr/local/bin/$name"
chmod 0755 "$root/usr/local/bin/$name"

# The dynamic loader and every shared library, by the path that the loader looks at.
ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\// {print $1}' | sort -u | while read -r library; do
  add "$library" 0755
done

add /etc/ssl/certs/ca-certificates.crt 0644
printf 'millrace:x:65532:65532::/nonexistent:/sbin/nologin\n' >"$root/etc/passwd"
printf 'millrace:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 0644 "$root/etc/passwd" "$root/etc/group" "$root/etc/nsswitch.conf"
