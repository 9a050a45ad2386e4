"""The agent that may be running with this gate.toml: it holds the devices, and tells which of them it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.findings import Finding, Result
from gate_agent.config import Device, GateConfig
from gate_agent.control import SOCKET
from gate_agent.guard_cli import ask

STOP = "systemctl stop gwanmun-agent"


@dataclass(frozen=True, slots=True)
class Running:
    """An agent that holds the devices."""

    degraded: Sequence[str] | None
    """What it lacks, devices and parts by id; None: it does not say, or speaks of another configuration."""
    why: tuple[str, str] = ("", "")
    """Why it is not to be asked, Korean and English."""

    def finding(self, device: Device) -> Finding:
        """What it says of one device."""
        again = (f"더 보려면 먼저 멈추십시오: {STOP}", f"To see more, stop it first: {STOP}")
        if self.degraded is None:
            ko, en = self.why
            return Finding(
                device.id, Result.SKIPPED, f"에이전트가 쓰는 중입니다. {ko}", f"The agent has it. {en}", *again
            )
        lacking = [each for each in self.degraded if each == device.id or each.startswith(f"{device.id}.")]
        if lacking:
            listed = ", ".join(lacking)
            return Finding(
                device.id,
                Result.FAULT,
                f"실행 중인 에이전트에 없습니다: {listed}",
                f"The running agent lacks it: {listed}",
                f"이유: journalctl -u gwanmun-agent | grep {device.id}. {again[0]}",
                f"The reason: journalctl -u gwanmun-agent | grep {device.id}. {again[1]}",
            )
        return Finding(
            device.id,
            Result.OK,
            "실행 중인 에이전트가 쓰고 있고 동작합니다",
            "The running agent has it, and it works",
            *again,
        )


async def find(config: GateConfig) -> Running | None:
    """The agent of this configuration; None where none runs, or where it has no socket to be asked at."""
    if config.runtime_dir is None:
        return None
    socket = config.runtime_dir / SOCKET
    try:
        answer = await asyncio.to_thread(ask, socket, {"verb": "status"})
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    except PermissionError:
        return Running(None, ("물어볼 권한이 없습니다(sudo)", "It may not be asked by this user (sudo)"))
    except (OSError, ValueError, RecursionError):
        return Running(None, ("묻는 말에 답하지 않습니다", "It does not answer when asked"))
    try:
        older = config.file.stat().st_mtime > socket.stat().st_mtime
    except OSError:
        return None  # it has just gone
    if older:
        return Running(None, ("지금의 gate.toml보다 먼저 시작했습니다", "It started before gate.toml was changed"))
    match answer:
        case {"degraded": list(degraded)} if all(isinstance(each, str) for each in degraded):
            # The agent's list is cut at a length: what stands in none that long may still be lacking.
            if len(degraded) < FULL:
                return Running(tuple(degraded))
            return Running(None, ("없는 것이 너무 많아 다 말하지 못합니다", "It lacks more than it can list"))
    return Running(None, ("알 수 없는 답을 합니다", "Its answer is not understood"))


FULL = 16
"""Entries of the agent's list at most (gate_agent.agent.MAX_FLAGS)."""
