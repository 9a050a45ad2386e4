#!/usr/bin/env bash
# Makes a fresh Debian 12 root (minbase) in DIR with the packages named. Usage: scripts/debian-root.sh DIR [PACKAGE...]
# Mirror, apt's network settings and CA certificates are this machine's own, so that what is reachable here is reachable
# inside. The unpacked root is kept as an archive under ${XDG_CACHE_HOME:-~/.cache}/gwanmun: the next is a copy.
# Needs root and debootstrap. Exit 2 with a message when one is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${1:?"DIR"}
shift
release=bookworm

[ "$(id -u)" -eq 0 ] || { echo "debootstrap에는 root 권한이 필요합니다 / debootstrap needs root" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "debootstrap이 없습니다 / debootstrap is missing: apt-get install debootstrap" >&2; exit 2; }

entries=$("${PYTHON:-python3}" "$here/apt_mirror.py" "$release")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gwanmun
# The key names everything that shapes the archive; a week is as old as one gets, so that security updates come in.
key=$(printf '%s\n' "$release" "$(dpkg --print-architecture)" "$@" "$(date -u +%G-%V)" | sha256sum | cut -c1-16)
archive=$cache/debian-$release-$key.tar

machine_settings() {
    printf '%s\n' "$entries" >"$root/etc/apt/sources.list"
    # Acquire:: is how apt reaches its mirror (proxy, certificates, dates); hooks of this machine's other packages stay out.
    apt-config dump Acquire >"$root/etc/apt/apt.conf.d/00machine"
    if [ -d /etc/apt/auth.conf.d ]; then cp -a /etc/apt/auth.conf.d "$root/etc/apt/"; fi
    if [ -f /etc/apt/auth.conf ]; then cp -a /etc/apt/auth.conf "$root/etc/apt/"; fi
    for file in /etc/resolv.conf /etc/hosts; do
        if [ -e "$file" ]; then cp -L "$file" "$root$file"; fi
    done
    mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
    if [ -e /etc/ssl/certs/ca-certificates.crt ]; then cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"; fi
    if [ -d /usr/local/share/ca-certificates ]; then cp -a /usr/local/share/ca-certificates "$root/usr/local/share/"; fi
    # Packages must not start their services while they are installed: there may be no init inside.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
}

mkdir -p "$root" "$cache"
if [ -f "$archive" ]; then
    tar -C "$root" -xf "$archive" --numeric-owner
    machine_settings
    exit 0
fi

mirror=$(printf '%s\n' "$entries" | awk '{ print $2; exit }')
log=$(mktemp)
trap 'rm -f "$log" "$archive.$$"' EXIT
make_root() {
    debootstrap --variant=minbase "$release" "$root" "$mirror"
    machine_settings
    chroot "$root" apt-get -qq update
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq install -y --no-install-recommends "$@"
    chroot "$root" apt-get clean
}
if ! (set -e; make_root "$@") >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "Debian 루트를 만들 수 없습니다 / the Debian root could not be made" >&2
    exit 1
fi
find "$cache" -name 'debian-*.tar' -mtime +8 -delete
# Under another name until it is whole: two runs may make it at once.
tar -C "$root" -cf "$archive.$$" --numeric-owner . && mv "$archive.$$" "$archive"
