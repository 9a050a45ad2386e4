"""The Bluetooth drivers on a real bluetoothd and a real kernel, in a QEMU machine (`make ble-vm`, docs/bluetooth-vm.md).

The kernel gets its controller from bumble through /dev/vhci; the phones live on the same virtual air. Nothing here runs outside
that machine.
"""
