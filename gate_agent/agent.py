"""The gate agent: hardware to rest, journal, trust, lanes, uplink, in this order; and back on SIGTERM.

`run` is what `gwanmun agent --config FILE` calls. Exit status: 0 after a clean stop, 2 for a configuration mistake, 75 after a
clean stop by an order to start again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec

from drivers.ports import Ble, Direction
from gate_agent import config as configuration
from gate_agent import health, installation, log
from gate_agent.barrier import Barrier
from gate_agent.cards import reader_id
from gate_agent.clockwatch import ClockWatch
from gate_agent.command_refusals import CommandRefusals
from gate_agent.commands import Commands, Site
from gate_agent.config import ConfigError, Expected, GateConfig
from gate_agent.control import SOCKET, Control
from gate_agent.devices import BACKOFF_BASE_S, BACKOFF_CAP_S, Supervised
from gate_agent.emergencies import Emergencies
from gate_agent.guard import Guard
from gate_agent.hardware import open_device
from gate_agent.journal import FILE as JOURNAL_FILE
from gate_agent.journal import FULL, Journal, Record, RecordUnavailableError
from gate_agent.judge import Judge
from gate_agent.keys import gate_key, public_key, reader_identity, signers
from gate_agent.lane import Lane, Ports
from gate_agent.modes import DAMAGED_ORDERS, KeptModes
from gate_agent.passage import Effect, Orders
from gate_agent.policy_file import Kept
from gate_agent.proximity import Proximity
from gate_agent.remote import Remote
from gate_agent.services import Services
from gate_agent.timekeeping import boottime
from gate_agent.trust import TrustCache
from gate_agent.uplink import Uplink
from gate_agent.zone import FileZoneKeys, ZoneKeys
from gate_agent.zones import NoKeys, Way, Zones
from policy.situation import ClockQuality
from protocol import mqtt, sdnotify, topics
from protocol.backoff import Backoff
from protocol.clock import Clock, SystemClock
from protocol.events import Kind
from protocol.health import Health
from protocol.mqtt import MqttLink, MqttSettings, TlsFilesError
from protocol.race import race
from protocol.status import GateState, LaneState, LaneStatus

_log = logging.getLogger(__name__)

EXIT_CONFIG = 2
EXIT_RESTART = 75
"""EX_TEMPFAIL: to be started again (deploy/systemd/gwanmun-agent.service)."""
MODES_FILE, ZONES_FILE, KEPT_RULES = "modes.db", "zones.db", "rules.kept"
MAX_WHY = 200
"""Characters of a reason in an event."""
BACKGROUND_S = 1.0
"""What a stopping gate grants links that are being closed."""
BOOT_RECORD_S = 5.0
"""Longest wait for the boot record; a gate whose disk hangs still watches its lanes and refuses."""
MAX_FLAGS = 16
"""Entries of an event's `degraded`."""


def run(config_path: Path) -> int:
    """Run until SIGTERM or SIGINT. Prints a configuration mistake, Korean and English, and returns 2."""
    log.set_up()
    try:
        config = configuration.load(config_path)
        return asyncio.run(_serve(config))
    except ConfigError as error:
        sys.stderr.write(error.text() + "\n")
        return EXIT_CONFIG


async def _serve(config: GateConfig) -> int:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    agent = Agent(config, SystemClock())
    why = "failed"
    try:
        await agent.start()
        agent.reload_on(reload)
        await race(stop.wait(), agent.restart.wait())
        why = "asked" if stop.is_set() else "restart"
    finally:
        await agent.stop(why)
    return 0 if stop.is_set() else EXIT_RESTART


class Agent:
    """`start` once, `stop` once, also after a start that failed."""

    def __init__(self, config: GateConfig, clock: Clock) -> None:
        """Raises ConfigError for devices or keys that cannot be used."""
        self._config, self._clock = config, clock
        # Only spreads retries in time; keys and ids come from the system's source.
        self._random = random.Random()  # noqa: S311  back-off jitter, no secret
        self.boot = f"0-{os.urandom(8).hex()}"
        self.restart = asyncio.Event()
        """Set by an order to start again: whoever runs the agent stops it."""
        self._started_at = clock.monotonic()
        self._identity = reader_identity(config)
        self._list_key = public_key(config.list_key)
        self._controller_key = public_key(config.mqtt.controller_key)
        self._gate_key = gate_key(config)
        self._parts_down: set[str] = set()
        """Parts of devices that work otherwise, such as the loudspeaker of a sign."""
        self._devices = {device.id: self._supervise(device) for device in config.devices.values()}
        self._journal: Journal | None = None
        self._uplink: Uplink | None = None
        self._trust: TrustCache | None = None
        self._watch: ClockWatch | None = None
        self._zones: Zones | None = None
        self._modes = KeptModes(config.state_dir / MODES_FILE, [each.id for each in config.barriers])
        self._zone_keys: ZoneKeys = NoKeys() if config.zone_keys is None else FileZoneKeys(config.zone_keys)
        self._signers = signers(config)
        self._services: Services | None = None
        self._proximity = Proximity(
            {f"ble.{each.ble}": each.walk_up for each in config.lanes if each.walk_up is not None}
        )
        self._barriers: dict[str, Barrier] = {}
        self._control: Control | None = None
        self._refusals: CommandRefusals | None = None
        self._lanes: list[Lane] = []
        self._tasks: list[asyncio.Task[None]] = []

    def _supervise(self, device: configuration.Device) -> Supervised[Any]:
        return Supervised(
            open_device(self._config, device, self._clock, self._part_changed),
            device.id,
            clock=self._clock,
            backoff=Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, self._random),
            report=self._device_changed,
        )

    async def start(self) -> None:
        """Raises ConfigError when rules, trust directory or TLS files cannot be used."""
        config = self._config
        await self._start_hardware()
        journal = self._journal = await self._open_journal()
        self.boot = f"{await journal.count_boot()}-{os.urandom(8).hex()}"
        try:
            data = {
                "boot": self.boot,
                "version": health.software_version(),
                "lanes": [each.id for each in config.barriers],
            }
            await journal.append(Kind.GATE_BOOT, data, timeout=BOOT_RECORD_S)
        except RecordUnavailableError:
            _log.error("the boot record cannot be written; entry stays refused until records can be")
        for name, device in self._devices.items():
            if not device.available and name.startswith("lane."):
                self._device_changed(name, False, "not there at start")
        loop = asyncio.get_running_loop()
        watch = self._watch = await self._clock_watch(journal)
        zones = self._zones = Zones(
            config.state_dir / ZONES_FILE,
            site=config.site,
            gate=config.id,
            keys=self._zone_keys,
            clock=self._clock,
            random_bytes=os.urandom,
            note=journal.note,
            call_later=loop.call_later,
        )
        trust = self._trust = TrustCache(
            config.trust_directory,
            config.policy_file,
            list_key=self._list_key,
            points={lane.point for lane in config.lanes},
            clock=self._clock,
            report=journal.note,
            signers=self._signers,
            kept=Kept(config.state_dir / KEPT_RULES),
            take_specimens=installation.is_checkout(),
            on_policy=zones.use,
            on_trust=watch.use,
        )
        await trust.load_first()
        watch.start()
        self._services = Services(
            clock=self._clock,
            journal=journal,
            trust=trust,
            identity=self._identity,
            request=config.request,
            times=config.times,
            limits=config.limits,
            random_bytes=os.urandom,
            new_key=ec.generate_private_key,
            judge=Judge(zones, watch.look, self._clock.monotonic, config.times.clock_error_s),
            degraded=lambda: self.degraded()[:MAX_FLAGS],
            reader_id=reader_id(config.site, config.id),
        )
        orders = await self._open_modes(journal)
        self._barriers = {each.id: self._barrier(each, self._services, orders.get(each.id)) for each in config.barriers}
        self._lanes = [self._lane(lane, self._services) for lane in config.lanes]
        guard = Guard(
            self._barriers, journal.note, zones=zones, watch=watch, zones_of=self._zones_of, degraded=self.degraded
        )
        await self._start_control(guard)
        uplink = self._uplink = self._make_uplink(journal)
        await uplink.listen(zones.subscription, 1, zones.on_message)
        await uplink.listen(topics.time(config.site), 0, watch.on_message)
        uplink.on_link(zones.on_link)
        await self._listen_to_orders(guard, self._services, uplink)
        zones.start(uplink.send)
        try:
            await uplink.start()
        except TlsFilesError as error:
            why = Expected(f"MQTT 인증서를 쓸 수 없습니다: {error}", f"usable TLS files are expected: {error}")
            raise ConfigError(config.file, "mqtt", why) from error
        # The other devices start with their supervisors: a camera may take seconds, and no lane waits for another's.
        self._watch_devices()
        self._spawn(trust.watch(config.times.trust_poll_s))
        interval = sdnotify.watchdog_interval()
        if interval is not None:
            self._spawn(self._feed_watchdog(interval))
        sdnotify.ready()
        self._show_status()

    def reload_on(self, asked: asyncio.Event) -> None:
        """Read rules, trust directory and zone keys anew whenever `asked` is set (SIGHUP)."""

        async def work() -> None:
            while True:
                await asked.wait()
                asked.clear()
                await self.reload()

        self._spawn(work())

    async def reload(self) -> None:
        """Read rules, trust directory and zone keys anew, changed or not."""
        if self._trust is not None:
            await self._trust.reload()
        await self._reload_zone_keys()

    async def _reload_zone_keys(self) -> None:
        """A file that cannot be used is told, and the keys in force stay."""
        if not isinstance(self._zone_keys, FileZoneKeys):
            return
        try:
            await asyncio.to_thread(self._zone_keys.reload)
        except ConfigError as error:
            _log.error("zone keys rejected, those in force stay: %s", error)
            if self._journal is not None:
                data = {"what": "zone_keys", "why": f"{error.key}: {error.expected.en}"[:MAX_WHY]}
                self._journal.note(Kind.TRUST_REJECTED, data)

    async def stop(self, why: str) -> None:
        """Lanes first, then the hardware, which falls back to rest, then the last records."""
        sdnotify.stopping()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._control is not None:
            await self._control.stop()
        await asyncio.gather(*(lane.stop() for lane in self._lanes))
        for barrier in self._barriers.values():
            barrier.stop()
        if self._services is not None:
            await self._services.background.finish(BACKGROUND_S)
        await asyncio.gather(*(device.stop() for device in self._devices.values()))
        if self._refusals is not None:
            self._refusals.stop()
        if self._journal is not None:
            self._journal.note(Kind.GATE_STOPPED, {"boot": self.boot, "why": why})
        if self._uplink is not None:
            await self._uplink.stop()
        if self._zones is not None:
            self._zones.stop()
        if self._watch is not None:
            self._watch.stop()
        await self._modes.close()
        if self._journal is not None:
            await self._journal.stop()

    def degraded(self) -> list[str]:
        """What does not work right now: devices by id, journal and uplink by flag."""
        found = [name for name, device in self._devices.items() if not device.available]
        found += sorted(self._parts_down)
        if self._journal is not None and not self._journal.writable:
            found.insert(0, "journal")
        if self._journal is not None and self._journal.full:
            found.insert(0, FULL)
        zones = self._zones.degraded if self._zones is not None else []
        return (self._uplink.degraded if self._uplink is not None else []) + zones + found

    # Parts.

    async def _start_control(self, guard: Guard) -> None:
        """The guard's socket; a gate that cannot open it serves all the same, and says so."""
        if self._config.runtime_dir is None:
            return
        path = self._config.runtime_dir / SOCKET
        control = Control(path, guard.handle)
        try:
            await control.start()
        except OSError as error:
            _log.error("the control socket %s cannot be opened: %s", path, error.strerror)
            self._device_changed("control", False, str(error.strerror))
        else:
            self._control = control

    async def _listen_to_orders(self, guard: Guard, services: Services, uplink: Uplink) -> None:
        """Orders and the emergency state from the controller; before `uplink` starts."""
        config, journal, trust = self._config, services.journal, services.trust
        refusals = self._refusals = CommandRefusals(journal.note, self._clock, asyncio.get_running_loop().call_later)
        watch = cast(ClockWatch, self._watch)
        executor = Remote(
            guard,
            self._barriers,
            journal,
            clock=self._clock,
            record_timeout_s=config.times.record_timeout_s,
            random_bytes=os.urandom,
            refresh=self.reload,
            replay=uplink.replay,
            restart=self.restart.set,
        )
        commands = Commands(
            Site(config.site, config.id, list(self._barriers), self._zones_of),
            executor,
            keys=lambda: trust.current.commands,
            time=watch.look,
            clock=self._clock,
            random_bytes=os.urandom,
            note=journal.note,
            refusals=refusals,
            send=uplink.send,
        )
        emergencies = Emergencies(
            config.site,
            self._barriers,
            self._modes,
            zones_of=self._zones_of,
            keys=lambda: trust.current.commands,
            time=watch.look,
            note=journal.note,
            refusals=refusals,
        )
        await uplink.listen(commands.topic, 1, commands.on_message)
        await uplink.listen(topics.emergency(config.site), 1, emergencies.on_message)
        self._spawn(commands.run())
        self._spawn(emergencies.run())

    async def _open_journal(self) -> Journal:
        config = self._config
        try:
            config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            _log.error("the state directory cannot be made; entry stays refused until it is there")

        def committed(records: Sequence[Record]) -> None:
            if self._uplink is not None:
                self._uplink.committed(records)

        journal = Journal(
            config.state_dir / JOURNAL_FILE,
            site=config.site,
            gate=config.id,
            clock=self._clock,
            random_bytes=os.urandom,
            on_commit=committed,
            sign=self._gate_key,
            stamp=self._stamp,
            limits=config.journal,
        )
        await journal.start()
        return journal

    def _stamp(self) -> dict[str, Any]:
        """What every record says; called in the journal's thread too."""
        facts = None if self._watch is None else self._watch.latest
        clk = {"q": str(ClockQuality.UNSET)} if facts is None else facts.clk()
        return {"boot": self.boot, "mono": int(boottime() * 1000), "clk": clk}

    async def _clock_watch(self, journal: Journal) -> ClockWatch:
        try:
            records = await journal.trusted_time()
        except RecordUnavailableError:
            records = None
        return ClockWatch(
            self._clock,
            self._config.clock,
            records=records,
            note=journal.note,
            call_later=asyncio.get_running_loop().call_later,
            runtime_dir=self._config.runtime_dir,
        )

    async def _open_modes(self, journal: Journal) -> Mapping[str, Orders]:
        """Orders that were in force before. Where they cannot be read, the lanes start out of service: a lockdown might be
        among them."""
        try:
            modes = await self._modes.open()
        except (OSError, sqlite3.Error) as error:
            _log.error("orders in force cannot be read: %s", type(error).__name__)
            self._device_changed("modes", False, type(error).__name__)
            return {each.id: DAMAGED_ORDERS for each in self._config.barriers}
        if modes.damaged is not None:
            journal.note(Kind.DEVICE_DEGRADED, {"device": "modes", "why": modes.damaged[:MAX_WHY]})
        return modes.load()

    def _zones_of(self, lane: str) -> list[str]:
        """Zones whose anti-passback the readers of a lane ask."""
        policy = cast(TrustCache, self._trust).current.policy
        return [policy.zone_of(each.settings.point).name for each in self._lanes if each.settings.id == lane]

    def _ended(self, lane: str, outcome: Effect, direction: Direction, attempt: str | None) -> None:
        """How a passage ended, told to the zones on both sides and to whoever follows."""
        if outcome is Effect.NOT_TAKEN and attempt is not None:
            cast(Services, self._services).judge.not_taken(attempt)
        sides = [each.settings for each in self._lanes if each.settings.id == lane]
        policy = cast(TrustCache, self._trust).current.policy
        way = Way.passed(policy, {side.direction: side.point for side in sides}, direction)
        cast(Zones, self._zones).ended(outcome, attempt, way)

    def _barrier(self, settings: configuration.Barrier, services: Services, orders: Orders | None) -> Barrier:
        barrier = Barrier(
            settings,
            self._devices[f"lane.{settings.hardware}"],
            services,
            call_later=asyncio.get_running_loop().call_later,
            orders=orders,
            keep=self._modes,
            on_outcome=lambda outcome, direction, attempt: self._ended(settings.id, outcome, direction, attempt),
        )
        barrier.listen(lambda _problem: self._state_changed())
        return barrier

    def _lane(self, lane: configuration.Lane, services: Services) -> Lane:
        def device(kind: str, name: str | None) -> Any:
            return None if name is None else self._devices[f"{kind}.{name}"]

        ports = Ports(
            signal=device("signal", lane.signal),
            factor=device("factor", lane.factor),
            camera=device("camera", lane.camera),
            nfc=device("nfc", lane.nfc),
            ble=device("ble", lane.ble),
        )
        loop = asyncio.get_running_loop()
        barrier = self._barriers[lane.id]
        return Lane(lane, ports, barrier, services, call_later=loop.call_later, proximity=self._proximity)

    def _make_uplink(self, journal: Journal) -> Uplink:
        config = self._config
        settings = MqttSettings(
            host=config.mqtt.host,
            port=config.mqtt.port,
            ca=config.mqtt.ca,
            certificate=config.mqtt.certificate,
            key=config.mqtt.key,
            client_id=config.id,
            # A will delay has no effect beyond the session's life. A clean start would end the session, and a broker may then
            # publish its will though the gate is back (MQTT 5.0 3.1.3.2.2); taking it up again cancels the will.
            session_expiry=60,
            clean_start=False,
            receive_maximum=20,
        )

        def connect(
            will: mqtt.Will, on_message: Callable[[mqtt.Message], None], on_state: Callable[[mqtt.LinkState], None]
        ) -> MqttLink:
            return MqttLink(
                settings, clock=self._clock, random=self._random, will=will, on_message=on_message, on_state=on_state
            )

        return Uplink(
            connect,
            journal,
            site=config.site,
            gate=config.id,
            boot=self.boot,
            controller_key=self._controller_key,
            in_flight=config.limits.in_flight,
            batches_in_flight=config.limits.batches_in_flight,
            random=self._random,
            call_later=asyncio.get_running_loop().call_later,
            state=self._state,
            health=self._health,
            health_s=config.times.health_s,
            report=self._uplink_changed,
        )

    async def _start_hardware(self) -> None:
        """Relays to rest, before anything that could fail or take long."""
        found = [device for name, device in self._devices.items() if name.startswith("lane.")]
        await asyncio.gather(*(device.start() for device in found))

    def _watch_devices(self) -> None:
        """One task for each device; a device that no lane names is not kept running."""
        work: dict[str, Callable[[Any], Awaitable[None]] | None] = {}
        for barrier in self._barriers.values():
            work[barrier.hardware.name] = barrier.watch
        for lane in self._lanes:
            ports = lane.ports
            work[ports.signal.name] = lane.display.watch
            if ports.camera is not None:
                work[ports.camera.name] = lane.watch_camera
            if ports.nfc is not None:
                work[ports.nfc.name] = lane.watch_nfc
            if ports.ble is not None and (lane.settings.walk_up is not None or ports.ble.name not in work):
                work[ports.ble.name] = _radio_work(lane)
            if ports.factor is not None:
                # A terminal that hangs up is told before somebody stands at it.
                work[ports.factor.name] = lambda factor: factor.gone()
        for name, each in work.items():
            self._spawn(self._devices[name].run(each))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_end_of_task)
        self._tasks.append(task)

    async def _feed_watchdog(self, interval: float) -> None:
        while True:
            sdnotify.alive()
            await asyncio.sleep(interval)

    # Reports.

    def _device_changed(self, name: str, available: bool, why: str) -> None:
        if self._journal is not None:
            data = {"device": name} if available else {"device": name, "why": why}
            self._journal.note(Kind.DEVICE_RESTORED if available else Kind.DEVICE_DEGRADED, data)
        for lane in self._lanes:
            lane.devices_changed()
        self._state_changed()
        self._show_status()

    def _part_changed(self, name: str, available: bool, why: str) -> None:
        if available:
            self._parts_down.discard(name)
        else:
            self._parts_down.add(name)
        self._device_changed(name, available, why)

    def _uplink_changed(self, kind: Kind, data: dict[str, str]) -> None:
        if self._journal is not None:
            self._journal.note(kind, data)
        self._show_status()

    def _state_changed(self) -> None:
        if self._uplink is not None:
            self._uplink.state_changed()

    def _show_status(self) -> None:
        missing = self.degraded()
        lanes = f"{len(self._barriers)} lanes"
        sdnotify.status(f"{lanes}, missing: {', '.join(missing)}" if missing else f"{lanes}, all well")

    def _state(self, epoch: str, seq: int) -> GateState:
        status = tuple(self._lane_status(barrier) for barrier in self._barriers.values())
        return GateState(self.boot, epoch, seq, status)

    def _lane_status(self, barrier: Barrier) -> LaneStatus:
        """One status for each lane; its direction is that of its own side, not of `back`."""
        sides = [lane for lane in self._lanes if lane.barrier is barrier]
        degraded: list[str] = []
        for lane in sides:
            sensors = {"camera": lane.ports.camera, "nfc": lane.ports.nfc, "ble": lane.ports.ble}
            found = {**sensors, "factor": lane.ports.factor, "signal": lane.ports.signal}
            degraded += [kind for kind, device in found.items() if device is not None and not device.available]
        state = LaneState(barrier.state.value) if barrier.hardware.available else LaneState.OUT_OF_SERVICE
        flags = tuple(dict.fromkeys([*degraded, *barrier.degraded]))[:MAX_FLAGS]
        return LaneStatus(barrier.settings.id, str(sides[0].settings.direction), state, flags)

    async def _health(self) -> Health:
        journal, trust = cast(Journal, self._journal), cast(TrustCache, self._trust)
        return await health.measure(
            journal,
            clock=self._clock,
            boot=self.boot,
            started_at=self._started_at,
            state_dir=self._config.state_dir,
            trust=trust.current.trust.version,
            quality=cast(ClockWatch, self._watch).look().quality,
            degraded=self.degraded,
            devices=self._devices,
        )


def _radio_work(lane: Lane) -> Callable[[Ble], Awaitable[None]]:
    """A radio that goes is noticed before somebody needs it; where the lane has walk-up, armed phones are listened for."""
    if lane.settings.walk_up is None:
        return lambda ble: ble.gone()
    return lambda ble: race(ble.gone(), lane.watch_ble(ble))


def _end_of_task(task: asyncio.Task[None]) -> None:
    """A task of the agent never ends by itself; one that does is a fault to be seen, and the rest goes on."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a part of the agent has failed", exc_info=task.exception())
