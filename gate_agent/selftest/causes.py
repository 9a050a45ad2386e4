"""What to do about a device that does not answer, by its likely cause: absent, not permitted, or held by another program."""

from __future__ import annotations

import grp
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from drivers.lane.wiring import GpioWiring, ModbusWiring, SerialPlace, TcpPlace
from gate_agent.config import Device

Advice = tuple[str, str]
"""Korean and English."""
USER = "gwanmun-gate"


def advice(device: Device) -> Advice:
    """For a device whose start failed."""
    return _ADVICE[device.kind](device)


def node(path: Path, key: str) -> Advice:
    """A device file: is it there, may it be opened, and if both, who has it."""
    try:
        status = path.stat()
    except PermissionError:
        return (
            f"{path.parent}에 들어갈 수 없습니다. sudo로 실행하십시오",
            f"{path.parent} may not be entered: run with sudo",
        )
    except OSError:
        return (
            f"{path}이(가) 없습니다. 케이블과 전원을 보고, 경로가 다르면 {key}을(를) 고치십시오",
            f"There is no {path}: look at cable and power, or correct {key}",
        )
    if not os.access(path, os.R_OK | os.W_OK):
        try:
            group = grp.getgrgid(status.st_gid).gr_name
        except KeyError:
            group = str(status.st_gid)
        return (
            f"{path}을(를) 열 권한이 없습니다: usermod -aG {group} {USER}, 지금은 sudo로",
            f"{path} may not be opened: usermod -aG {group} {USER}; for now, run with sudo",
        )
    return (
        f"다른 프로그램이 쓰는지 보십시오: fuser -v {path}. 아니면 뽑았다 꽂으십시오",
        f"See whether another program has it: fuser -v {path}; if none has, unplug it and plug it in again",
    )


def _camera(device: Device) -> Advice:
    source = device.options["source"]
    if source.isdecimal():
        return node(Path(f"/dev/video{source}"), "source")
    if source.startswith("/"):
        return node(Path(source), "source")
    return (
        "카메라의 전원과 네트워크, source의 주소와 비밀번호를 확인하십시오",
        "Look at the camera's power and network, and at address and password in source",
    )


def _nfc(device: Device) -> Advice:
    if device.driver == "pcsc":
        return (
            "systemctl enable --now pcscd. 리더가 없다고 하면 케이블과 libccid를, 이름이 다르면 reader를 고치십시오",
            "systemctl enable --now pcscd; where there is no reader, look at the cable and libccid; else correct reader",
        )
    kind, _, place = device.options["path"].partition(":")
    name, _, chip = place.partition(":")
    if kind == "tty" and chip:
        return node(Path(f"/dev/tty{name}"), "path")
    return (
        "케이블을 보고(lsusb), 그룹 plugdev와 커널 모듈(pn533_usb, port100), pcscd가 잡고 있는지 확인하십시오(install.md 6절)",
        "Look at the cable (lsusb), the group plugdev, and whether a kernel module (pn533_usb, port100) or pcscd has the reader "
        "(install.md, section 6)",
    )


def _lane(device: Device) -> Advice:
    match device.wiring:
        case GpioWiring(chip=chip):
            ko, en = node(Path(chip), "chip")
            return f"{ko}. 선을 누가 쓰는지: gpioinfo", f"{en}. Who has a line: gpioinfo"
        case ModbusWiring(place=TcpPlace(host, port)):
            return (
                f"모듈의 전원과 네트워크, {host}:{port}, unit을 확인하십시오. 다른 프로그램이 연결해 있으면 끊으십시오",
                f"Look at the module's power and network, {host}:{port} and unit; end other programs that are connected to it",
            )
        case ModbusWiring(place=SerialPlace(path=path)):
            ko, en = node(Path(path), "serial")
            return (
                f"{ko}. A·B 두 선이 바뀌지 않았는지, baud, parity, unit도 확인하십시오",
                f"{en}. Look also at the wires A and B, which may be swapped, and at baud, parity and unit",
            )
    return _socket(device)


def _signal(device: Device) -> Advice:
    if device.driver == "panel":
        return "부분마다 아래를 보십시오", "See each part below"
    return _socket(device)


def part(device: Device, name: str) -> Advice:
    """For a part of a sign that does not work."""
    match name:
        case "text":
            return node(Path(device.options["text.device"]), "text.device")
        case "speech":
            return (
                "apt-get install --no-install-recommends espeak-ng, 또는 녹음을 두십시오(docs/signal.md)",
                "apt-get install --no-install-recommends espeak-ng, or give recordings (docs/signal.md)",
            )
        case "sound":
            return (
                "apt-get install --no-install-recommends alsa-utils. 있으면 aplay -l로 장치를, 그룹 audio와 sound.device를 "
                "확인하십시오",
                "apt-get install --no-install-recommends alsa-utils; where it is there, look at aplay -l, the group audio and "
                "sound.device",
            )
    return "배선과 전원을 확인하십시오", "Look at wiring and power"


def _socket(device: Device) -> Advice:
    path = device.options.get("path", "")
    return (
        f"소켓 {path}에서 기다리는 프로그램이 있는지, 그 그룹과 path를 확인하십시오",
        f"See whether a program listens at the socket {path}; look at its group and at path",
    )


_ADVICE: Mapping[str, Callable[[Device], Advice]] = {
    "camera": _camera,
    "nfc": _nfc,
    "lane": _lane,
    "signal": _signal,
    "factor": _socket,
}
