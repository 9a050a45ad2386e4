#!/bin/busybox sh
# First process of the guest: loads the modules, puts a layer of memory over the host's files and starts the probe on it.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module" || echo "insmod $module"; done </modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host || poweroff -f
mount -t tmpfs memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /new || poweroff -f
for tree in proc sys dev; do mount --move "/$tree" "/new/$tree"; done
mkdir -p /new/dev/shm /new/dev/pts
mount -t tmpfs shm /new/dev/shm
mount -t tmpfs run /new/run
mount -t tmpfs tmp /new/tmp
mkdir -p /new/run/dbus /new/run/out /new/var/lib/bluetooth
mount -t tmpfs state /new/var/lib/bluetooth
mount -t 9p -o trans=virtio,version=9p2000.L out /new/run/out || poweroff -f
eval "set -- $(cat /new/run/out/arguments)"
exec switch_root /new /bin/sh "$1/testbed/vm/guest.sh" "$@"
