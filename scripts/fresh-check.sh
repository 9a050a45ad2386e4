#!/usr/bin/env bash
# Runs the README's commands as a newcomer would: on a fresh Debian 12 with git, make and python3-venv, in a clone of the
# commit checked out here (uncommitted changes are not in it). FRESH_TARGETS holds the commands, one a line.
# The root lives in a temporary directory, in its own mount and process namespace, and is removed at the end.
# FRESH_KEEP=1 keeps it for a look. Exit: 0 all passed, 1 one failed, 2 this machine cannot do it.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
targets=${FRESH_TARGETS:-$'make demo ARGS=--scripted\nmake test'}

[ "$(id -u)" -eq 0 ] || { echo "root 권한이 필요합니다: sudo make fresh-check / root is needed: sudo make fresh-check" >&2; exit 2; }
git -C "$here" rev-parse --verify --quiet HEAD >/dev/null || { echo "커밋이 없습니다 / there is no commit to clone" >&2; exit 2; }
if [ -n "$(git -C "$here" status --porcelain)" ]; then
    echo "커밋하지 않은 변경은 시험하지 않습니다 / uncommitted changes are not part of this check"
fi

work=$(mktemp -d)
root=$work/root
cleanup() {
    if [ -n "${FRESH_KEEP:-}" ]; then echo "남겨 둠 / kept: $root"; else rm -rf --one-file-system "$work"; fi
}
trap cleanup EXIT

start=$SECONDS
"$here/scripts/debian-root.sh" "$root" git make python3-venv
printf 'fresh-check: %-44s %4d s\n' "Debian 12 minbase + git make python3-venv" $((SECONDS - start))
git -C "$here" bundle create --quiet "$root/root/gwanmun.bundle" HEAD

# pip's settings of this machine, and the local files and directories they name (an index on disk, a constraints file).
settings=()
for file in /etc/xdg/pip/pip.conf /etc/pip.conf "$HOME/.pip/pip.conf" "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf"; do
    [ -f "$file" ] && settings+=("$file")
done
for file in ${settings[@]+"${settings[@]}"}; do
    case "$file" in
    "$HOME"/*) target=$root/root/.config/pip/pip.conf ;;
    *) target=$root$file ;;
    esac
    install -D -m 600 "$file" "$target"
done
local_paths=()
while IFS= read -r path; do
    [ ! -e "$path" ] || local_paths+=("$path")
done < <({ cat /dev/null ${settings[@]+"${settings[@]}"}; env | grep '^PIP_' || true; } |
    grep -oE '(^|[=[:space:]]|file://)/[^[:space:]"]+' | sed -E 's#^(file://|[=[:space:]])##' | sort -u)

# The environment of a newcomer: nothing of this shell but how the network and the package index are reached.
environment=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "TERM=${TERM:-dumb}")
while IFS='=' read -r -d '' name value; do
    case "$name" in
    PIP_* | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | *_proxy | *_PROXY) environment+=("$name=$value") ;;
    esac
done < <(env -0)

inside() { # run one shell line inside, with /proc, /dev and shared memory of its own; what it leaves running ends with it
    unshare --mount --pid --fork --kill-child -- bash -euc '
        root=$1; shift
        while [ "$1" != -- ]; do paths+=("$1"); shift; done; shift
        mount --make-rprivate /
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        for node in null zero full random urandom tty; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
        mkdir "$root/dev/pts" "$root/dev/shm"
        mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
        ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
        mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
        for path in ${paths[@]+"${paths[@]}"}; do
            [ ! -e "$root$path" ] || continue
            if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$(dirname "$root$path")"; : >"$root$path"; fi
            mount --bind -o ro "$path" "$root$path"
        done
        exec chroot "$root" /usr/bin/env -i "$@"
    ' bash "$root" ${local_paths[@]+"${local_paths[@]}"} -- "${environment[@]}" /bin/bash -c "$1"
}

inside 'cd /root && git clone --quiet -c advice.detachedHead=false gwanmun.bundle gwanmun' || exit 1
failed=0
while IFS= read -r target; do
    [ -n "$target" ] || continue
    start=$SECONDS
    echo "fresh-check: \$ $target"
    if inside "cd /root/gwanmun && $target" </dev/null; then result=ok; else result=FAILED failed=1; fi
    printf 'fresh-check: %-44s %4d s  %s\n' "$target" $((SECONDS - start)) "$result"
done <<<"$targets"
exit "$failed"
