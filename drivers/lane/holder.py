"""The process that holds a lane's relays on GPIO lines: it times the pulse, so that a killed agent leaves nothing open.

    to it       {"chip": "/dev/gpiochip0", "outputs": {"in": {"line": 20, "rest_high": false}}, "parent": 4711}   first
                {"cmd": "pulse", "out": "in", "ms": 300, "id": 1} | {"cmd": "rest", "out": "in", "id": 2}
    from it     {"ready": true}, then {"ok": 1} | {"error": "...", "id": 1}

JSON lines on standard input and output. Every output is at rest before it says ready, and again when its input closes, when its
parent is another process than the one named, when nobody takes its answers, and on SIGTERM (docs/adr/0002).
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

import gpiod
from gpiod.line import Direction, Value

MAX_PULSE_MS = 10_000
"""Whatever its agent asks."""
MAX_LINE = 4096
SETTINGS_S = 5.0
"""An agent that names no lines within this time has gone."""
PARENT_S = 0.25
"""How often it looks whether its parent lives: its input stays open where another process has it too."""
AGAIN_S = 0.05
"""A chip that did not take the rest level is asked again."""


class _EndError(Exception):
    """Nothing more to wait for: rest, and go."""


class Outputs:
    """The relays, each with the time at which it goes back to rest."""

    def __init__(self, chip: str, outputs: dict[str, dict[str, Any]]) -> None:
        """Requests the lines at rest level. Raises OSError or ValueError."""
        self._lines = {name: int(each["line"]) for name, each in outputs.items()}
        self._rest = {
            name: Value.ACTIVE if each["rest_high"] is True else Value.INACTIVE for name, each in outputs.items()
        }
        self._until: dict[str, float] = {}
        self._request = gpiod.request_lines(
            chip,
            consumer="gwanmun",
            config={
                line: gpiod.LineSettings(direction=Direction.OUTPUT, output_value=self._rest[name])
                for name, line in self._lines.items()
            },
        )

    @property
    def due(self) -> float | None:
        return min(self._until.values(), default=None)

    def pulse(self, name: str, milliseconds: int) -> None:
        """Raises OSError or KeyError."""
        moved = Value.INACTIVE if self._rest[name] is Value.ACTIVE else Value.ACTIVE
        # Before the line moves: a chip that fails in between is brought to rest all the same.
        self._until[name] = time.monotonic() + milliseconds / 1000
        self._request.set_value(self._lines[name], moved)

    def rest(self, name: str) -> None:
        """Raises OSError or KeyError."""
        self._request.set_value(self._lines[name], self._rest[name])
        self._until.pop(name, None)

    def tick(self) -> None:
        now = time.monotonic()
        for name, until in list(self._until.items()):
            if now >= until:
                try:
                    self.rest(name)
                except OSError:
                    self._until[name] = now + AGAIN_S

    def close(self) -> None:
        for name in self._lines:
            with suppress(OSError):  # each of them is tried
                self.rest(name)
        self._request.release()


class Lines:
    """Bounded lines from standard input; `wait` returns those that are whole."""

    def __init__(self, ended: int) -> None:
        """`ended`: a descriptor that can be read when a signal says that it is over."""
        self._ended, self._rest = ended, b""

    def wait(self, timeout: float) -> list[bytes]:
        """Raises _EndError when the input is closed or a line too long."""
        ready, _, _ = select.select([0, self._ended], [], [], max(0.0, timeout))
        if self._ended in ready:
            raise _EndError
        if not ready:
            return []
        chunk = os.read(0, MAX_LINE)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if not chunk or len(self._rest) > MAX_LINE:
            raise _EndError
        return whole


def say(body: dict[str, Any]) -> None:
    """Raises _EndError when nobody takes it: an agent that hangs gets no pulse."""
    try:
        os.write(1, json.dumps(body).encode() + b"\n")
    except OSError:
        raise _EndError from None


def obey(outputs: Outputs, line: bytes) -> None:
    """One command. Raises _EndError for what no agent sends."""
    try:
        body = json.loads(line)
        number, name, cmd = int(body["id"]), str(body["out"]), body["cmd"]
        milliseconds = int(body["ms"]) if cmd == "pulse" else 0
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _EndError from None
    try:
        if cmd == "pulse" and 0 < milliseconds <= MAX_PULSE_MS:
            outputs.pulse(name, milliseconds)
        elif cmd == "rest":
            outputs.rest(name)
        else:
            raise _EndError
    except KeyError:
        raise _EndError from None
    except OSError as error:
        say({"error": error.strerror or type(error).__name__, "id": number})
    else:
        say({"ok": number})


def serve(outputs: Outputs, lines: Lines, waiting: list[bytes], parent: int) -> None:
    """Until _EndError."""
    say({"ready": True})
    while os.getppid() == parent:
        for line in waiting:
            obey(outputs, line)
        now = time.monotonic()
        waiting = lines.wait(min(PARENT_S, (outputs.due or now + PARENT_S) - now))
        outputs.tick()


def main() -> int:
    # A signal is read like everything else: an exception from a handler could come between a relay and its rest.
    ended, told = os.pipe()
    for descriptor in (0, 1, told):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(told)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the agent's own end closes the pipe
    lines, outputs = Lines(ended), None
    try:
        first, *waiting = _first(lines)
        settings = json.loads(first)
        outputs = Outputs(settings["chip"], settings["outputs"])
        serve(outputs, lines, waiting, int(settings["parent"]))
    except _EndError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        with suppress(_EndError):
            say({"error": getattr(error, "strerror", None) or type(error).__name__})
        return 1
    finally:
        if outputs is not None:
            outputs.close()
    return 0


def _first(lines: Lines) -> list[bytes]:
    """The settings and what came with them. Raises _EndError."""
    until = time.monotonic() + SETTINGS_S
    while (left := until - time.monotonic()) > 0:
        found = lines.wait(left)
        if found:
            return found
    raise _EndError


if __name__ == "__main__":
    sys.exit(main())
