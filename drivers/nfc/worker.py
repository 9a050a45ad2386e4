"""The one thread that owns a blocking device: jobs go in one at a time, results come back to the event loop.

A thread of its own and a daemon, because a device that hangs in the kernel must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple["Future[Any]", Callable[[], Any]]


class ThreadStoppedError(Exception):
    """The thread has been stopped and takes no more jobs."""


class DeviceThread:
    """`interrupted` is seen by a running job that should end early: its caller was cancelled, or the thread is to stop."""

    def __init__(self, name: str) -> None:
        self.interrupted = threading.Event()
        self._stopping = False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def stopping(self) -> bool:
        return self._stopping

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` in the thread. Cancelling gives the job up: one not begun never runs, a running one is interrupted.

        Raises what the job raises, ThreadStoppedError after `stop`.
        """
        if self._stopping:
            raise ThreadStoppedError
        future: Future[T] = Future()
        self._jobs.put((future, job))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel():
                self.interrupted.set()
            raise

    async def stop(self, timeout: float) -> bool:
        """End the running job and the thread, at most `timeout` seconds. False if the device did not let go."""
        self._stopping = True
        self.interrupted.set()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            future, job = entry
            # Before the job counts as running, so that an interrupt meant for it is never wiped away.
            self.interrupted.clear()
            if self._stopping:
                self.interrupted.set()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except BaseException as error:  # it belongs to the caller on the loop
                future.set_exception(error)
            else:
                future.set_result(result)
