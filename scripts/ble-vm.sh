#!/usr/bin/env bash
# Runs the Bluetooth drivers against a real bluetoothd on a real kernel, in a QEMU machine. Usage: scripts/ble-vm.sh [PART...]
# Parts: as-shipped, central, server, pending (none named: these), pending-as-shipped. The guest sees this machine's files
# read-only and writes to memory; its result and logs come to .ble-vm/out. The kernel is Debian's, fetched by apt and unpacked,
# never installed. BLE_VM_DEBUG=1: bluetoothd logs in detail, btmon and dbus-monitor record. BLE_VM_SECONDS: the time limit, 900
# unless told. BLE_VM_ACCEL: QEMU's accelerator, tcg unless told. Exit: 0 every claim held, 1 one failed, 2 this machine cannot
# do it.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
work=$here/.ble-vm
out=$work/out

cannot() { echo "ble-vm: $*" >&2; exit 2; }

[ "$(uname -m)" = x86_64 ] || cannot "x86-64에서만 실행됩니다 / runs on x86-64 only"
[ -x "$python" ] || cannot "먼저 make setup을 실행하십시오 / run make setup first"
for program in qemu-system-x86_64 cpio depmod modprobe apt-get dpkg; do
    command -v "$program" >/dev/null || cannot "$program: scripts/setup.sh vm"
done

package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
[ -n "$package" ] || cannot "커널 패키지를 찾을 수 없습니다 / no kernel package found: sudo apt-get update"
version=${package#linux-image-}
kernel=$work/$version

# The kernel image and the modules that testbed/vm/modules.txt asks for, in the order in which they are to be loaded.
fetch_kernel() {
    local new name path
    new=$(mktemp -d "$work/kernel.XXXXXX")
    (cd "$new" && apt-get -qq download "$package" 2>apt.log) || { cat "$new/apt.log" >&2; return 1; }
    dpkg -x "$new"/*.deb "$new/root" && depmod -b "$new/root" "$version" && mkdir "$new/modules" || return 1
    while read -r name; do
        case "$name" in '' | '#'*) continue ;; esac
        modprobe -d "$new/root" -S "$version" --show-depends "$name" >>"$new/depends" || return 1
    done <"$here/testbed/vm/modules.txt"
    # Lines are `insmod PATH`, or `builtin NAME` for what this kernel has within.
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' "$new/depends" >"$new/paths"
    while read -r path; do
        cp "$path" "$new/modules/" || return 1
        path=$(basename "$path")
        case "$path" in *.xz) xz -d "$new/modules/$path" || return 1 ;; esac
        echo "${path%.xz}" >>"$new/modules/order"
    done <"$new/paths"
    mkdir "$new/kernel" && cp "$new/root/boot/vmlinuz-$version" "$new/kernel/vmlinuz" && mv "$new/modules" "$new/kernel/" || return 1
    mv "$new/kernel" "$kernel" && rm -rf "$new"
}

mkdir -p "$work"
if [ ! -d "$kernel" ]; then
    echo "커널을 가져옵니다 / fetching the kernel: $package"
    fetch_kernel || cannot "커널을 가져올 수 없습니다 / the kernel could not be fetched"
fi

boot=$(mktemp -d "$work/boot.XXXXXX")
trap 'rm -rf "$boot"' EXIT
mkdir -p "$boot/root"/{bin,dev,proc,sys,host,memory,new,out}
cp /bin/busybox "$boot/root/bin/"
cp -r "$kernel/modules" "$boot/root/modules"
install -m 755 "$here/testbed/vm/init.sh" "$boot/root/init"
(cd "$boot/root" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 >"$boot/initramfs.gz"

rm -rf "$out"
mkdir -p "$out"
printf '%q ' "$here" "$python" "${BLE_VM_DEBUG:-0}" "$@" >"$out/arguments"

timeout --kill-after 5 "${BLE_VM_SECONDS:-900}" qemu-system-x86_64 \
    -accel "${BLE_VM_ACCEL:-tcg}" -cpu max -m 1536 -smp 1 -no-reboot -nic none -display none -vga none -serial stdio -monitor none \
    -kernel "$kernel/vmlinuz" -initrd "$boot/initramfs.gz" -append "console=ttyS0 quiet loglevel=3 panic=-1" \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -fsdev "local,id=out,path=$out,security_model=none" -device virtio-9p-pci,fsdev=out,mount_tag=out \
    </dev/null 2>"$out/qemu.log" | sed -u 's/\r$//; /reboot: Power down$/d' || true

if [ ! -s "$out/exit" ]; then
    tail -n 5 "$out/qemu.log" >&2
    echo "FAIL  가상 기계가 끝까지 가지 못했습니다 / the machine did not come to its end" >&2
    exit 1
fi
read -r code <"$out/exit"
exit "$code"
