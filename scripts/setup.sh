#!/usr/bin/env bash
# Makes sure that system packages are here. Usage: scripts/setup.sh [--optional] GROUP...
# Groups: run (what the demo and the quick tests use), all (what `make test-all` adds), fresh (what `make fresh-check` adds),
# chaos (what `make chaos` adds: disks and a network of its own, of use to root only),
# vm (what `make ble-vm` adds; its kernel is fetched by scripts/ble-vm.sh and never installed).
# Installs by apt as root or with sudo that asks no password; GWANMUN_NO_APT=1 forbids. --optional: a missing package is
# reported, not fatal. Exit 0: all there (or optional); 2: missing, and the message says what to type.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

optional=0
if [ "${1:-}" = "--optional" ]; then optional=1; shift; fi

have_program() { command -v "$1" >/dev/null 2>&1; }
have_library() { ldconfig -p 2>/dev/null | grep -qF "$1 " || compgen -G "/usr/lib*/$1" >/dev/null || compgen -G "/usr/lib/*/$1" >/dev/null; }

have_file() { [ -e "$1" ]; }
python_header() { "${PYTHON:-python3}" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || echo none; }

missing=()
need() { # need PACKAGE CHECK NAME
    "$2" "$3" || missing+=("$1")
}

for group in "$@"; do
    case "$group" in
    run)
        need mosquitto have_program mosquitto
        need libzbar0 have_library libzbar.so.0
        ;;
    all)
        need debootstrap have_program debootstrap
        need systemd-container have_program systemd-nspawn
        need systemd have_program systemd-analyze
        need dbus-daemon have_program dbus-daemon
        need chromium have_program chromium
        need espeak-ng have_program espeak-ng
        need pcscd have_program pcscd
        need vsmartcard-vpcd have_file /usr/lib/pcsc/drivers/serial/libifdvpcd.so
        # The virtual card is read and tested by both.
        need yubico-piv-tool have_program yubico-piv-tool
        need opensc have_program pkcs15-tool
        # What pyscard is built with.
        need swig have_program swig
        need gcc have_program gcc
        need libpcsclite-dev have_file /usr/include/PCSC/winscard.h
        need python3-dev have_file "$(python_header)"
        ;;
    chaos)
        need e2fsprogs have_program mkfs.ext4
        need mount have_program mount
        need util-linux have_program fsfreeze
        need iproute2 have_program ip
        ;;
    fresh) need debootstrap have_program debootstrap ;;
    vm)
        need qemu-system-x86 have_program qemu-system-x86_64
        need cpio have_program cpio
        need busybox-static have_file /bin/busybox
        need kmod have_program depmod
        # The guest runs them from this machine's files; here they need not run.
        need dbus-daemon have_program dbus-daemon
        need bluez have_file /usr/libexec/bluetooth/bluetoothd
        ;;
    *)
        echo "setup.sh: 모르는 묶음 / unknown group: $group" >&2
        exit 2
        ;;
    esac
done
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
may_install=1
[ -z "${GWANMUN_NO_APT:-}" ] || may_install=0
have_program apt-get || may_install=0
if [ "$(id -u)" -ne 0 ]; then
    if have_program sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else may_install=0; fi
fi

if [ "$may_install" = 1 ]; then
    echo "시스템 패키지를 설치합니다 / installing system packages: ${missing[*]}"
    apt() { ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # The package lists may be absent or old: try as things are, then once more with new lists.
    if apt install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then exit 0; fi
    if apt update >>"$log" 2>&1 && apt install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then exit 0; fi
    tail -n 20 "$log" >&2
fi

cat >&2 <<MESSAGE

시스템 패키지가 없습니다: ${missing[*]}
다음을 실행한 뒤 다시 시도하십시오.
Missing system packages: ${missing[*]}
Run this, then try again:

    sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}

MESSAGE
[ "$optional" = 1 ] && exit 0
exit 2
