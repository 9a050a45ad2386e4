"""Checks of a Bluetooth adapter and what it needs: system bus, bluetoothd with version and settings, adapter, HCI transport."""

from __future__ import annotations

import asyncio
import configparser
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivers.ble import BleDriver, BleSettings
from drivers.ble.bluez_bus import ADAPTER, ADVERTISING_MANAGER, ROOT, BluezBus, BusError, Objects
from drivers.findings import Finding, Result
from drivers.ports import BleRole, DriverError
from mdoc import ble

MAIN_CONF = Path("/etc/bluetooth/main.conf")
DAEMONS = tuple(
    Path(place, "bluetoothd")
    for place in ("/usr/libexec/bluetooth", "/usr/lib/bluetooth", "/usr/local/libexec/bluetooth", "/usr/sbin")
)
"""Where distributions put it; it stands in no PATH."""
WHOLE_WRITES = (5, 69)
"""First bluetoothd that passes on values of 511 and 512 bytes as a server (src/shared/gatt-server.c, write_cb)."""
DEFAULT_MTU = 517
"""bluetoothd's ExchangeMTU where main.conf says none."""
CONNECT_TIMEOUT_MS, SHORT_CONNECT_MS = 4000, 1000
"""The kernel's own limit of one pending connection, which cancelling does not shorten (docs/bluetooth-vm.md), and one that keeps
the delay of other lanes within a turn."""
MAX_CONF = 1 << 20
VERSION_SECONDS = 5.0

_TRANSPORTS = {
    "usb": re.compile(r"\d+|[0-9a-fA-F]{4}:[0-9a-fA-F]{4}(/[^#]+|#\d+)?"),
    "serial": re.compile(r"(/[^,]+)(,\d+)?(,(rtscts|dsrdtr|delay))*"),
    "hci-socket": re.compile(r"\d*"),
    "unix": re.compile(r"(/.+)"),
}
"""The transports a gate has use for, and what stands behind their colon."""


async def check(
    name: str,
    settings: BleSettings,
    roles: Sequence[BleRole] = tuple(BleRole),
    *,
    main_conf: Path = MAIN_CONF,
    daemons: Sequence[Path] = DAEMONS,
) -> list[Finding]:
    """One [device.ble.NAME]. Takes a few seconds at most; never raises for what it finds."""
    checks = _Checks(f"ble.{name}", roles)
    if settings.driver is BleDriver.BUMBLE:
        await checks.bumble(settings.hci or "")
    else:
        await checks.bluez(settings.adapter, main_conf, daemons)
    return checks.found


class _Checks:
    def __init__(self, device: str, roles: Sequence[BleRole]) -> None:
        self._device, self._roles = device, roles
        self.found: list[Finding] = []

    def _add(self, check: str, result: Result, ko: str, en: str, do: tuple[str, str] = ("", "")) -> None:
        self.found.append(Finding(f"{self._device}.{check}", result, ko, en, *do))

    async def bluez(self, adapter: str | None, main_conf: Path, daemons: Sequence[Path]) -> None:
        objects = await self._objects()
        version = await _version(daemons)
        self._version(version)
        if objects is None:
            for check in ("adapter", "advertising"):
                self._add(
                    check, Result.SKIPPED, "bluetoothd에 닿지 않아 보지 못했습니다", "bluetoothd cannot be reached"
                )
        else:
            path = self._adapter(objects, adapter)
            if BleRole.PERIPHERAL in self._roles:
                self._advertising(objects.get(path or "", {}).get(ADVERTISING_MANAGER))
        conf = _settings(main_conf)
        if BleRole.PERIPHERAL in self._roles:
            self._mtu(version, conf, main_conf)
            self._interval(conf, main_conf)
        if BleRole.CENTRAL in self._roles:
            self._giving_up(conf, main_conf)

    async def _objects(self) -> Objects | None:
        try:
            bus = await BluezBus.open()
        except DriverError as error:
            self._add(
                "bus",
                Result.FAULT,
                f"시스템 D-Bus에 연결되지 않습니다: {error}",
                f"The system bus cannot be reached: {error}",
                ("dbus를 시작하십시오: systemctl start dbus", "Start it: systemctl start dbus"),
            )
            self._add("daemon", Result.SKIPPED, "시스템 D-Bus가 없습니다", "There is no system bus")
            return None
        self._add("bus", Result.OK, "시스템 D-Bus에 연결됩니다", "The system bus answers")
        try:
            objects = await bus.objects()
        except DriverError as error:
            denied = isinstance(error, BusError) and error.name.endswith("AccessDenied")
            self._add(
                "daemon",
                Result.FAULT,
                f"bluetoothd가 {'거절합니다' if denied else '답하지 않습니다'}: {error}",
                f"bluetoothd {'refuses' if denied else 'does not answer'}: {error}",
                (
                    "서비스 사용자를 bluetooth 그룹에 넣으십시오: usermod -aG bluetooth gwanmun-gate",
                    "Put the service user into the group bluetooth: usermod -aG bluetooth gwanmun-gate",
                )
                if denied
                else (
                    "시작하십시오: systemctl enable --now bluetooth",
                    "Start it: systemctl enable --now bluetooth",
                ),
            )
            return None
        finally:
            await bus.close()
        self._add("daemon", Result.OK, "bluetoothd가 답합니다", "bluetoothd answers")
        return objects

    def _version(self, version: tuple[int, int] | None) -> None:
        if version is None:
            self._add(
                "version",
                Result.SKIPPED,
                "bluetoothd의 버전을 알 수 없습니다",
                "The version of bluetoothd is not known",
            )
        else:
            text = f"bluetoothd {version[0]}.{version[1]}"
            self._add("version", Result.OK, text, text)

    def _adapter(self, objects: Objects, wanted: str | None) -> str | None:
        """The adapter to use; None where there is none."""
        adapters = {path: found[ADAPTER] for path, found in sorted(objects.items()) if ADAPTER in found}
        if (wanted is not None and f"{ROOT}/{wanted}" not in adapters) or not adapters:
            there = ", ".join(path.rpartition("/")[2] for path in adapters) or "-"
            self._add(
                "adapter",
                Result.FAULT,
                f"어댑터 {wanted or ''}가 없습니다. 있는 것: {there}",
                f"There is no adapter {wanted or ''}; there is: {there}",
                (
                    "어댑터를 꽂거나 [device.ble] adapter를 고치십시오",
                    "Plug one in, or correct adapter in [device.ble]",
                ),
            )
            return None
        candidates = list(adapters) if wanted is None else [f"{ROOT}/{wanted}"]
        able = [path for path in candidates if {*self._roles} <= {*adapters[path].get("Roles", ())}]
        powered = [path for path in able or candidates if adapters[path].get("Powered")]
        chosen = (powered or able or candidates)[0]
        name = chosen.rpartition("/")[2]
        if not able:
            roles = ", ".join(sorted(adapters[chosen].get("Roles", ()))) or "-"
            self._add(
                "adapter",
                Result.FAULT,
                f"{name}의 역할은 {roles}뿐입니다",
                f"{name} can only be: {roles}",
                ("Bluetooth 4.0 이상(LE) 어댑터를 쓰십시오", "Use an adapter with Bluetooth LE in these roles"),
            )
        elif not powered:
            self._add(
                "adapter",
                Result.FAULT,
                f"{name}가 꺼져 있습니다",
                f"{name} is switched off",
                ("rfkill unblock bluetooth; bluetoothctl power on",) * 2,
            )
        else:
            self._add("adapter", Result.OK, f"{name}가 켜져 있습니다", f"{name} is on")
        return chosen

    def _advertising(self, manager: dict[str, Any] | None) -> None:
        if manager is None:
            self._add(
                "advertising",
                Result.FAULT,
                "어댑터가 광고하지 못합니다",
                "The adapter cannot advertise",
                ("다른 어댑터를 쓰십시오", "Use another adapter"),
            )
            return
        most, taken = int(manager.get("SupportedInstances", 0)), int(manager.get("ActiveInstances", 0))
        self._add(
            "advertising",
            Result.OK if most else Result.WARNING,
            f"동시에 광고할 수 있는 수 {most + taken}, 쓰는 중 {taken}",
            f"Advertisements at a time: {most + taken}, of which in use: {taken}",
            ("", "") if most else ("다른 프로그램의 광고를 끄십시오", "Stop other programs that advertise"),
        )

    def _mtu(self, version: tuple[int, int] | None, conf: configparser.ConfigParser | None, path: Path) -> None:
        if version is not None and version >= WHOLE_WRITES:
            self._add(
                "mtu", Result.OK, "이 버전은 긴 쓰기를 버리지 않습니다", "This version passes on writes of every length"
            )
            return
        mtu = _number(conf, "GATT", "ExchangeMTU", DEFAULT_MTU)
        if mtu <= ble.SERVER_MTU:
            self._add("mtu", Result.OK, f"ExchangeMTU = {mtu}", f"ExchangeMTU = {mtu}")
            return
        known = "" if version is not None else "버전을 모르지만, "
        self._add(
            "mtu",
            Result.FAULT if version is not None else Result.WARNING,
            f"{known}5.69 전의 bluetoothd는 휴대전화가 보낸 511~512바이트 조각을 버립니다. ExchangeMTU = {mtu}",
            f"bluetoothd before 5.69 drops fragments of 511 and 512 bytes that phones send; ExchangeMTU = {mtu}",
            (
                f"{path}의 [GATT]에 ExchangeMTU = {ble.SERVER_MTU}, 그 뒤 systemctl restart bluetooth",
                f"In {path}, under [GATT]: ExchangeMTU = {ble.SERVER_MTU}; then systemctl restart bluetooth",
            ),
        )

    def _interval(self, conf: configparser.ConfigParser | None, path: Path) -> None:
        lowest, highest = (_number(conf, "LE", f"{each}AdvertisementInterval", 0) for each in ("Min", "Max"))
        if 0 < lowest <= highest <= SHORT_INTERVAL:
            ms = f"{highest * INTERVAL_UNIT_MS:g} ms"
            self._add("interval", Result.OK, f"광고 간격 {ms}", f"Advertising interval {ms}")
            return
        self._add(
            "interval",
            Result.WARNING,
            "광고 간격이 정해지지 않았습니다. 커널의 기본값은 1.28초이고, 휴대전화가 그만큼 늦게 찾습니다",
            "The advertising interval is not set short; the kernel's default is 1.28 s, and phones find the gate that much later",
            (
                f"{path}의 [LE]에 MinAdvertisementInterval=32와 MaxAdvertisementInterval=48, "
                "그 뒤 systemctl restart bluetooth",
                f"In {path}, under [LE]: MinAdvertisementInterval=32 and MaxAdvertisementInterval=48; "
                "then systemctl restart bluetooth",
            ),
        )

    def _giving_up(self, conf: configparser.ConfigParser | None, path: Path) -> None:
        milliseconds = _number(conf, "LE", "Autoconnecttimeout", CONNECT_TIMEOUT_MS)
        if 0 < milliseconds <= SHORT_CONNECT_MS:
            self._add(
                "connecting",
                Result.OK,
                f"답하지 않는 휴대전화를 {milliseconds} ms 뒤에 놓습니다",
                f"A phone that does not answer is given up after {milliseconds} ms",
            )
            return
        self._add(
            "connecting",
            Result.WARNING,
            "답하지 않는 휴대전화 하나가 이 어댑터의 다른 통로를 4초까지 붙들 수 있습니다",
            "One phone that does not answer can hold up the other lanes of this adapter for 4 s",
            (
                f"{path}의 [LE]에 Autoconnecttimeout=1000, 그 뒤 systemctl restart bluetooth",
                f"In {path}, under [LE]: Autoconnecttimeout=1000; then systemctl restart bluetooth",
            ),
        )

    async def bumble(self, hci: str) -> None:
        kind, colon, place = hci.partition(":")
        form = _TRANSPORTS.get(kind)
        matched = form.fullmatch(place) if form is not None and colon else None
        if matched is None:
            self._add(
                "transport",
                Result.FAULT,
                f"HCI 연결 이름이 아닙니다: {hci}",
                f"This is no HCI transport: {hci}",
                ("usb:0, serial:/dev/ttyACM0,1000000, hci-socket:0, unix:/run/air.sock 중 하나로",
                 "One of usb:0, serial:/dev/ttyACM0,1000000, hci-socket:0, unix:/run/air.sock is expected"),
            )  # fmt: skip
            return
        if kind in {"serial", "unix"} and not Path(matched.group(1)).exists():  # noqa: ASYNC240  # nobody waits
            self._add(
                "transport",
                Result.FAULT,
                f"{matched.group(1)}이 없습니다",
                f"There is no {matched.group(1)}",
                ("장치를 연결하거나 [device.ble] hci를 고치십시오", "Connect it, or correct hci in [device.ble]"),
            )
            return
        self._add("transport", Result.OK, f"{hci}", f"{hci}")
        if kind == "hci-socket":
            await self._unused(f"hci{int(place or 0)}")

    async def _unused(self, name: str) -> None:
        """The kernel gives the whole adapter to one program, and not while bluetoothd has it on."""
        objects: Objects = {}
        with suppress(DriverError):  # no bus or no bluetoothd: then it is not in use by that
            bus = await BluezBus.open()
            try:
                objects = await bus.objects()
            finally:
                await bus.close()
        if objects.get(f"{ROOT}/{name}", {}).get(ADAPTER, {}).get("Powered"):
            self._add(
                "exclusive",
                Result.FAULT,
                f"bluetoothd가 {name}를 쓰고 있습니다",
                f"bluetoothd is using {name}",
                ("systemctl disable --now bluetooth",) * 2,
            )
        else:
            self._add("exclusive", Result.OK, f"bluetoothd가 {name}를 쓰지 않습니다", f"bluetoothd does not use {name}")


INTERVAL_UNIT_MS = 0.625
SHORT_INTERVAL = 160
"""100 ms: a phone that scans finds the gate at its first or second try."""


async def _version(daemons: Sequence[Path]) -> tuple[int, int] | None:
    """What the first bluetoothd that is found says of itself."""
    for daemon in daemons:
        if not daemon.is_file():
            continue
        try:
            process = await asyncio.create_subprocess_exec(
                daemon, "--version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except OSError:
            continue
        try:
            async with asyncio.timeout(VERSION_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            continue
        matched = re.match(rb"(\d+)\.(\d+)", output.strip())
        if matched is not None:
            return int(matched.group(1)), int(matched.group(2))
    return None


def _settings(path: Path) -> configparser.ConfigParser | None:
    """main.conf; None where it is absent or cannot be read, and bluetoothd's defaults hold."""
    conf = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        with path.open(encoding="utf-8") as file:
            conf.read_string(file.read(MAX_CONF))
    except (OSError, ValueError, configparser.Error):
        return None
    return conf


def _number(conf: configparser.ConfigParser | None, section: str, key: str, default: int) -> int:
    try:
        return default if conf is None else conf.getint(section, key, fallback=default)
    except (TypeError, ValueError):  # no value, or none that bluetoothd would take
        return default
