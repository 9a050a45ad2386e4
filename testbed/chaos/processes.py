"""Real processes that start in milliseconds: forked from a server that has imported the programs, killed as any other.

`python -m gate_agent` needs a second to begin; a run with hundreds of kills would mostly wait for imports.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from controller.config import load
from controller.main import Controller
from testbed.chaos.clocks import OffsetClock

STOP_S = 15.0
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["testbed.chaos.parts"])


class Program(Protocol):
    """Something that runs, and may be killed and started again."""

    @property
    def running(self) -> bool: ...

    @property
    def pid(self) -> int: ...

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs or before it was started."""
        ...

    def start(self) -> None: ...

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        ...

    async def stop(self) -> None:
        """SIGTERM; SIGKILL after STOP_S."""
        ...


class Forked:
    def __init__(self, target: Callable[..., None], arguments: Callable[[], tuple[Any, ...]], log: Path) -> None:
        """`arguments` are asked for at each start. What `target` prints goes to `log`."""
        self._target, self._arguments, self._log = target, arguments, log
        self._process: BaseProcess | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int:
        if self._process is None or self._process.pid is None:
            raise RuntimeError("not started")
        return self._process.pid

    @property
    def status(self) -> int | None:
        return None if self._process is None else self._process.exitcode

    def start(self) -> None:
        work = (self._target, self._arguments(), str(self._log))
        process = _CONTEXT.Process(target=_child, args=work, daemon=True)
        process.start()
        self._process = process

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()

    async def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        await asyncio.to_thread(self._process.join, STOP_S)
        self.kill()


class Executed:
    """A whole new program, for what a fork cannot have: another namespace or control group."""

    def __init__(self, command: Callable[[], list[str]], log: Path, folder: Path) -> None:
        self._command, self._log, self._folder = command, log, folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    @property
    def status(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


def _child(target: Callable[..., None], arguments: tuple[Any, ...], log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    target(*arguments)


def run_controller(config: str, clock: str) -> None:
    """The controller as `controller.main.run` has it, on the clock of a file."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_control(Path(config), Path(clock)))


async def _control(config: Path, clock: Path) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    controller = Controller(load(config), OffsetClock(clock))
    try:
        await controller.start()
        running, asked = asyncio.create_task(controller.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait([running, asked], return_when=asyncio.FIRST_COMPLETED)
        for task in (running, asked):
            task.cancel()
        await asyncio.gather(running, asked, return_exceptions=True)
    finally:
        await controller.stop()
