#!/bin/sh
# On the guest, over the host's files: a bus, then the probe. Arguments: directory, python, debug (0 or 1), parts.
directory=$1 python=$2 debug=$3
shift 3
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket BLE_VM_DEBUG="$debug"
busybox ip link set lo up
dbus-daemon --system --fork --nopidfile --nosyslog
cd "$directory" || exit 1
"$python" -u -m testbed.vm.probe "$@" 2>&1 | tee /run/out/result.txt
# The probe leaves its verdict itself, so that one that was killed has none.
[ ! -e /run/verdict ] || cp /run/verdict /run/out/exit
for log in /run/bluetoothd.log /run/btmon.log /run/dbus.log; do
    [ ! -e "$log" ] || cp "$log" /run/out/
done
sync
busybox poweroff -f
