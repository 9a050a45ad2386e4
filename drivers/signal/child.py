"""A program run as a child process, with an end in every case: it exits, it is stopped, or its time is up."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from drivers.ports import DriverError

STOP_S = 0.5
"""From SIGTERM to SIGKILL."""
MAX_SAID = 120
"""Characters of a program's own complaint in an error."""
_MAX_READ = 4096


async def run(arguments: Sequence[str], limit_s: float, given: bytes | None = None) -> None:
    """Run a program to its end, with `given` on its standard input. A task that is cancelled stops it first.

    Raises DriverError for a program that is not there, fails, or takes longer than `limit_s` seconds.
    """
    name = arguments[0].rpartition("/")[2]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=DEVNULL if given is None else PIPE, stdout=DEVNULL, stderr=PIPE
        )
    except OSError as error:
        raise DriverError(f"{name} cannot be run: {error.strerror}") from error
    said = b""
    try:
        async with asyncio.timeout(limit_s):
            if process.stdin is not None and given is not None:
                process.stdin.write(given)
                process.stdin.close()
            said = await _complaint(process)
            status = await process.wait()
    except TimeoutError:
        raise DriverError(f"{name} does not end") from None
    finally:
        await _end(process)
    if status:
        raise DriverError(_told(name, said) or f"{name} ended with {status}")


async def _complaint(process: Process) -> bytes:
    """What the program says until it ends: the end is kept, where the reason stands."""
    assert process.stderr is not None  # noqa: S101  asked for above
    said = b""
    while chunk := await process.stderr.read(_MAX_READ):
        said = (said + chunk)[-_MAX_READ:]
    return said


def _told(name: str, said: bytes) -> str:
    """The last line of a complaint, with the program's name before it; nothing where it said nothing."""
    lines = [" ".join(line.split()) for line in said.decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "").removeprefix(f"{name}: ")[:MAX_SAID]
    return last and f"{name}: {last}"


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            # One that hangs in the kernel is left to it: it makes no sound, and nobody waits for it.
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()
