"""The controller as a service: starts its parts, tells systemd, stops them in bounded time.

Exit status: 0 stopped on request, 1 failed while running or starting, 2 wrong configuration.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Coroutine
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import SystemRandom
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from starlette.routing import Route

from controller import integrity, occupancy, web
from controller.acl import AclFile
from controller.alarm_desk import AlarmDesk
from controller.alarm_kinds import INTEGRITY
from controller.alarm_rows import AlarmUpdate
from controller.alarms_api import AlarmsApi
from controller.api import ReadApi
from controller.batch import Committed
from controller.beacon import Beacons
from controller.commands import Commands
from controller.commands_api import CommandsApi
from controller.config import ConfigError, ControllerConfig, load
from controller.emergency import EmergencyState
from controller.enrolled import Enrolled
from controller.ingest import Figures, Ingest, StoreThread
from controller.integrity import DamagedError
from controller.live import LAST_EVENTS, Live
from controller.metrics import Metrics
from controller.officer import OfficerApi
from controller.openapi import OpenApi
from controller.pages import Condition, Pages
from controller.queries import Queries, warm
from controller.reader import QueryThread
from controller.requests import make_token
from controller.schema import SchemaError
from controller.sorting import LEAVES, Sorted
from controller.state_lock import HeldError, StateLock
from controller.store import OtherSiteError, Store
from controller.stream import LiveStream
from controller.stream_api import StreamApi
from controller.upkeep import Upkeep
from controller.webhook_post import CaError
from controller.webhook_settings import SecretError
from controller.webhooks import Webhooks
from policy.document import PolicyError
from protocol import sdnotify, topics
from protocol.clock import Clock, SystemClock
from protocol.mqtt import LinkState, Message, MqttLink, TlsFilesError

STUCK_S = 15.0
"""A commit under way for this long stops feeding the watchdog."""
LINK_STOP_S = 2.0
RETELL_S = 30.0
RESULT = "/res"
"""How topics end on which gates answer (protocol.topics.result)."""
GC_ALLOCATIONS = 50_000
"""New containers between two looks for cycles. A batch of parsed records makes tens of thousands, none in a cycle; with Python's
own 700 the collector takes a sixth of the time."""
RUN_BYTES = 6
"""Of the random name of this run in the ids of the live stream."""
_log = logging.getLogger(__name__)


class StartError(Exception):
    """Something outside the configuration is in the way; Korean and English, a line each."""


class Controller:
    """All parts of one controller, on the running loop. `start`, then `wait`, then `stop`."""

    def __init__(self, config: ControllerConfig, clock: Clock | None = None) -> None:
        self.config, self._clock = config, clock or SystemClock()
        self._random = SystemRandom()
        self._thread = StoreThread()
        self._store: Store | None = None
        self._query_thread = QueryThread()
        self._queries: Queries | None = None
        self.enrolled = Enrolled(config.place.gates)
        self.access_list = AclFile(config.place.access_list, config.site, self.enrolled)
        self._lock: StateLock | None = None
        self._damaged = False
        self._sock: socket.socket | None = None
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self._states: set[asyncio.Task[Any]] = set()
        self.live = Live(self._clock, config.time_zone)
        self.stream = LiveStream(self.live, os.urandom(RUN_BYTES).hex())
        self.link = MqttLink(
            config.mqtt, clock=self._clock, random=self._random, on_message=self._receive, on_state=self._on_state
        )
        self.ingest: Ingest | None = None
        self.desk: AlarmDesk | None = None
        self.commands: Commands | None = None
        self.emergency: EmergencyState | None = None
        self.webhooks: Webhooks | None = None
        self.metrics = Metrics(
            self.live,
            database=config.database,
            version=_version(),
            condition=self.condition,
            figures=lambda: Figures() if self.ingest is None else self.ingest.figures,
            busy_since=lambda: None if self.ingest is None else self.ingest.busy_since,
            senders=lambda: () if self.webhooks is None else self.webhooks.senders,
        )
        self.site: web.Web | None = None
        self._server: web.Server | None = None
        self.url = ""
        """Address of the live page, known after `start`."""

    async def start(self) -> None:
        """Raises StartError. The broker may be absent."""
        config = self.config
        try:
            sock = self._sock = web.listen(config.web.bind, config.web.port)
        except OSError as error:
            where = f"{config.web.bind}:{config.web.port}"
            raise StartError(f"화면 주소를 쓸 수 없습니다: {where}\n{where}: {error.strerror}") from error
        try:
            self._lock = StateLock(config.place.lock)
            whole = await self._thread.call(partial(integrity.check, config.database))
            opened = partial(
                Store,
                config.database,
                config.time_zone,
                config.alarms.limits,
                site=config.site,
                retention=config.retention,
            )
            store = self._store = await self._thread.call(opened)
        except HeldError as error:
            raise StartError(
                f"다른 관제 서버나 복원이 쓰는 중입니다: {error}\n{error}: another controller, or a restore, is at work"
            ) from error
        except DamagedError as error:
            raise StartError(str(error)) from error
        except OtherSiteError as error:
            raise StartError(
                f"다른 청사({error})의 저장소입니다: {config.database}\n{config.database} belongs to another site, {error}"
            ) from error
        except (sqlite3.Error, OSError, SchemaError) as error:
            raise StartError(f"저장소를 열 수 없습니다: {config.database}\n{config.database}: {error}") from error
        await self.access_list.keep()
        picture = await self._thread.call(partial(store.picture, self.live.today(), LAST_EVENTS))
        self.live.load(picture)
        desk = self.desk = AlarmDesk(
            store.alarm_book,
            self._thread,
            settings=config.alarms,
            clock=self._clock,
            directory=config.database.parent,
            connected=lambda: self.link.connected,
            store_ok=lambda: self.ingest is None or self.ingest.store_ok,
            enrolled=lambda gate: self.enrolled.public_key(gate) is not None,
            on_update=self._on_alarms,
        )
        desk.load(picture.gates)
        self.ingest = Ingest(
            store=store,
            thread=self._thread,
            link=self.link,
            site=config.site,
            key=_private_key(config.records_key, "records.key"),
            settings=config.ingest,
            clock=self._clock,
            random=self._random,
            keys=self.enrolled.public_key,
            on_batch=self._on_batch,
            on_condition=self.live.touch,
            on_commit=self.metrics.on_commit,
        )
        for leaf in LEAVES:
            await self.link.subscribe(f"{topics.ROOT}/{config.site}/+/{leaf}", qos=0 if leaf == "health" else 1)
        routes = await self._orders(store, desk)
        webhooks = self.webhooks = self._webhooks(store, desk)
        self.ingest.start()
        try:
            self.link.start()
        except TlsFilesError as error:
            raise StartError(f"MQTT 인증서나 키를 쓸 수 없습니다.\nMQTT certificate or key: {error}") from error
        pages = Pages(self.live, config.site, self.condition)
        site = self.site = web.Web(
            live=self.live,
            pages=pages,
            condition=self.condition,
            more=[*routes, *await self._reading(store), *self.metrics.routes()],
        )
        self._server = web.server(site.app)
        hooks = await webhooks.start()
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._tasks = [
            asyncio.create_task(self.live.run(), name="live"),
            asyncio.create_task(self._server.serve([sock]), name="web"),
            asyncio.create_task(self._watch(), name="watchdog"),
            asyncio.create_task(Beacons(self.link, site=config.site, clock=self._clock).run(), name="beacon"),
            asyncio.create_task(self.access_list.run(), name="access list"),
            asyncio.create_task(
                Upkeep(store, self._thread, clock=self._clock, random=self._random, troubles=desk).run(),
                name="upkeep of the store",
            ),
            asyncio.create_task(desk.run(), name="alarms"),
            *self.ingest.tasks,
            *hooks,
            *([] if self.emergency is None else [asyncio.create_task(self.emergency.run(), name="emergency")]),
        ]
        if not whole:
            self._follow(self._check_store(desk))
        _log.info("site %s, page at %s", config.site, self.url)

    async def _check_store(self, desk: AlarmDesk) -> None:
        """A large database is read through while the controller runs: it may take minutes."""
        try:
            found = await integrity.check_beside(self.config.database)
        except sqlite3.Error as error:
            found = [f"not read through: {error}"]
        if found:
            self._damaged = True
            _log.critical("%s", DamagedError(self.config.database, "검사에서 오류가 나왔습니다", "; ".join(found)))
            self.live.touch()
            await self._tell_of_damage(desk)

    async def _tell_of_damage(self, desk: AlarmDesk) -> None:
        while True:
            try:
                await desk.trouble(INTEGRITY, "", holds=True)
            except (sqlite3.Error, OSError) as error:
                _log.error("the alarm about the database cannot be written: %s", error)
                await asyncio.sleep(RETELL_S)
            else:
                return

    async def _orders(self, store: Store, desk: AlarmDesk) -> list[Route]:
        """What operators do through the API: orders to gates, where this controller has a key for them, and alarms.

        Raises StartError.
        """
        config = self.config
        if config.commands_key is not None:
            self.commands = Commands(
                self.link,
                store.orders,
                self._thread,
                site=config.site,
                key=_private_key(config.commands_key, "commands.key"),
                clock=self._clock,
                random_bytes=os.urandom,
            )
            await self.link.subscribe(topics.result(config.site, "+"))
        if config.emergency_key is not None:
            self.emergency = EmergencyState(
                self.link,
                store.orders,
                self._thread,
                site=config.site,
                key=_private_key(config.emergency_key, "commands.emergency_key"),
                clock=self._clock,
                random_bytes=os.urandom,
            )
            await self.link.subscribe(topics.emergency(config.site))
        token = await _token(config.place.api_token)
        alarms = AlarmsApi(desk, self.live.alarms.values, token)
        return [*CommandsApi(self.commands, self.emergency, token).routes(), *alarms.routes()]

    async def _reading(self, store: Store) -> list[Route]:
        """What may be read, by a connection of its own. Raises StartError."""
        config = self.config
        reports = config.reports
        try:
            zones = await asyncio.to_thread(occupancy.settings, reports.rules, reports.reset)
        except (OSError, PolicyError) as error:
            raise StartError(f"규칙을 읽을 수 없습니다: {reports.rules}\n{reports.rules}: {error}") from error
        make = partial(
            Queries,
            config.database,
            config.time_zone,
            k=reports.k,
            clock=self._clock,
            detail_days=config.retention.detail_days,
            occupancy=zones,
        )
        try:
            queries = self._queries = await self._query_thread.call(make)
        except sqlite3.Error as error:
            raise StartError(f"저장소를 읽을 수 없습니다: {config.database}\n{config.database}: {error}") from error
        self._follow(warm(self._query_thread, queries))
        token = await _token(config.place.officer_token)
        officer = OfficerApi(queries, self._query_thread, store.reads, self._thread, self._clock, token)
        read = ReadApi(self.live, queries, self._query_thread, self.condition, self.enrolled.gates, k=reports.k)
        return [*read.routes(), *officer.routes(), *StreamApi(self.stream).routes(), *OpenApi().routes()]

    def _webhooks(self, store: Store, desk: AlarmDesk) -> Webhooks:
        """Raises StartError."""
        try:
            return Webhooks(
                self.config.webhooks,
                site=self.config.site,
                rows=store.webhooks,
                thread=self._thread,
                clock=self._clock,
                random=self._random,
                troubles=desk,
            )
        except (SecretError, CaError) as error:
            raise StartError(str(error)) from error

    async def wait(self) -> None:
        """Returns never; raises what ended one of the parts."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
            raise RuntimeError(f"{task.get_name()} ended")

    async def stop(self) -> None:
        """In order: the page, the link, the ingest, the store. At most some six seconds. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self.live.close()
        self.stream.close()
        if self._server is not None:
            self._server.should_exit = True
        web_tasks = [task for task in self._tasks if task.get_name() == "web"]
        if web_tasks:
            await asyncio.wait(web_tasks, timeout=web.GRACE_S + 1)
        await self.link.stop(LINK_STOP_S)
        if self.ingest is not None:
            await self.ingest.stop()
        for task in (*self._tasks, *self._states):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._states, return_exceptions=True)
        if self.webhooks is not None:
            await self.webhooks.close()
        if self._sock is not None:
            self._sock.close()
        if self._queries is not None:
            await self._query_thread.call(self._queries.close)
        self._query_thread.shutdown()
        if self._store is not None:
            await self._thread.call(self._store.close)
        self._thread.shutdown()
        if self._lock is not None:
            self._lock.release()

    def condition(self) -> Condition:
        store_ok = self.ingest is not None and self.ingest.store_ok and not self._damaged
        return Condition(self.link.connected, store_ok)

    def _receive(self, message: Message) -> None:
        if self.commands is not None and message.topic.endswith(RESULT):
            self.commands.receive(message)
            self.link.ack(message)
            return
        if message.topic == topics.emergency(self.config.site):
            if self.emergency is not None:
                self.emergency.receive(message.payload)
            self.link.ack(message)
            return
        if self.ingest is not None:
            self.ingest.receive(message)

    def _on_batch(self, done: Sorted, committed: Committed) -> None:
        if self.desk is not None:
            self.desk.note(done, committed)
        self.live.apply(done, committed)
        self.stream.apply(done, committed)
        self.metrics.on_batch(done, committed)
        if self.webhooks is not None and committed.changes:
            self.webhooks.wake()

    def _on_alarms(self, update: AlarmUpdate) -> None:
        self.live.apply_alarms(update.rows)
        self.stream.alarms(update)
        if self.webhooks is not None:
            self.webhooks.wake()

    def _on_state(self, state: LinkState) -> None:
        self.live.touch()
        sdnotify.status(
            "브로커에 연결됨 / connected" if state.connected else f"브로커 없음 / no broker: {state.reason}"
        )
        if state.connected and self.ingest is not None:
            self._follow(self.ingest.acknowledge_all())
        if state.connected and self.emergency is not None:
            self._follow(self.emergency.joined())

    def _follow(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._states.add(task)
        task.add_done_callback(self._states.discard)

    async def _watch(self) -> None:
        """Feed systemd's watchdog while the loop turns and the store answers."""
        interval = sdnotify.watchdog_interval()
        while True:
            await asyncio.sleep(interval or STUCK_S)
            busy = self.ingest.busy_since if self.ingest is not None else None
            if busy is None or self._clock.monotonic() - busy < STUCK_S:
                sdnotify.alive()


async def _token(path: Path) -> str:
    """Raises StartError."""
    try:
        return await asyncio.to_thread(make_token, path)
    except OSError as error:
        raise StartError(f"API 토큰을 만들 수 없습니다: {path}\n{path}: {error.strerror}") from error


def _private_key(path: Path, name: str) -> ec.EllipticCurvePrivateKey:
    """Raises StartError; `name` is the configuration's."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise StartError(f"서명할 키를 쓸 수 없습니다: {path}\n{name} {path}: a PEM private key is expected") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StartError(f"타원곡선 개인키여야 합니다: {path}\n{name} {path}: an elliptic-curve key is expected")
    return key


def _version() -> str:
    try:
        return version("gwanmun")
    except PackageNotFoundError:  # a checkout that was not installed
        return "source"


def run(config_path: Path) -> int:
    """`gwanmun controller --config FILE`: run until SIGTERM or SIGINT. Gives the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    gc.set_threshold(GC_ALLOCATIONS)
    try:
        config = load(config_path)
    except ConfigError as error:
        sys.stderr.write(f"{error.text()}\n")
        return 2
    try:
        return asyncio.run(_serve(config))
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1


async def _serve(config: ControllerConfig) -> int:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    controller = Controller(config)
    status = 0
    try:
        await controller.start()
        sdnotify.ready()
        running, stop = asyncio.create_task(controller.wait()), asyncio.create_task(asked.wait())
        await asyncio.wait([running, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if running.done():
            _log.critical("a part of the controller failed", exc_info=running.exception())
            status = 1
        running.cancel()
        await asyncio.gather(running, stop, return_exceptions=True)
    finally:
        sdnotify.stopping()
        await controller.stop()
    return status
