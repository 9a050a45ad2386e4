"""Phones that do a reader harm, each in one way. They run on bumble, whatever the gate runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bumble import att, core
from bumble.att import Attribute
from bumble.core import UUID as BUMBLE_UUID
from bumble.gatt import GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR as CCCD
from bumble.gatt import Characteristic, CharacteristicValue, Service

from drivers.ports import LinkEndedError, LinkError, LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc import ble, limits
from testbed.air import Air
from testbed.phone.ble import PhonePeripheral

NOTIFY = Characteristic.Properties.NOTIFY
READ = Characteristic.Properties.READ
WRITE = Characteristic.Properties.WRITE
WRITE_WITHOUT_RESPONSE = Characteristic.Properties.WRITE_WITHOUT_RESPONSE
Op = att.Opcode
DISCOVERY = frozenset(
    {
        Op.ATT_READ_BY_GROUP_TYPE_REQUEST,
        Op.ATT_FIND_BY_TYPE_VALUE_REQUEST,
        Op.ATT_READ_BY_TYPE_REQUEST,
        Op.ATT_FIND_INFORMATION_REQUEST,
    }
)
FLOOD = 300
"""Values; more than any queue on the gate holds."""

OnRequest = Callable[[Any, Any], bool]
"""Connection and ATT PDU in; True: the phone's GATT server does not get to see it."""


def intercept(phone: PhonePeripheral, on_request: OnRequest) -> None:
    """Look at every ATT request first."""
    server = phone.device.gatt_server
    original = server.on_gatt_pdu

    def on_gatt_pdu(connection: Any, pdu: Any) -> None:
        if not on_request(connection, pdu):
            original(connection, pdu)

    server.on_gatt_pdu = on_gatt_pdu


def subscription(pdu: Any) -> bool:
    """Only CCCDs are written with a response here."""
    return bool(pdu.op_code == Op.ATT_WRITE_REQUEST)


def number(count: int, matches: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Of the PDUs that match, the `count`th and all later."""
    seen = 0

    def counted(pdu: Any) -> bool:
        nonlocal seen
        seen += matches(pdu)
        return matches(pdu) and seen >= count

    return counted


STEPS: dict[str, Callable[[], Callable[[Any], bool]]] = {
    "MTU": lambda: lambda pdu: bool(pdu.op_code == Op.ATT_EXCHANGE_MTU_REQUEST),
    "discovery": lambda: lambda pdu: pdu.op_code in DISCOVERY,
    "the middle of discovery": lambda: number(3, lambda pdu: pdu.op_code in DISCOVERY),
    "the first subscription": lambda: subscription,
    "the second subscription": lambda: number(2, subscription),
}
"""Of a connection, before State = start: the request with which each begins."""


def silent_from(phone: PhonePeripheral, step: str, *, times: int | None = None) -> None:
    """Answers nothing from this step on, in `times` connections or in every one."""
    silent: list[Any] = []
    begins = STEPS[step]()

    def on_request(connection: Any, pdu: Any) -> bool:
        if connection not in silent and begins(pdu) and (times is None or len(silent) < times):
            silent.append(connection)
        return connection in silent

    intercept(phone, on_request)


def drops_at(phone: PhonePeripheral, step: str, *, times: int | None = None) -> None:
    """Disconnects at this step, in `times` connections or in every one."""
    dropped: list[Any] = []

    def drop(connection: Any) -> None:
        if times is None or len(dropped) < times:
            dropped.append(asyncio.ensure_future(leave(connection)))

    if step == "connection":
        phone.device.on("connection", drop)
        return
    begins = STEPS[step]()

    def on_request(connection: Any, pdu: Any) -> bool:
        if begins(pdu) and (times is None or len(dropped) < times):
            drop(connection)
            return True
        return False

    intercept(phone, on_request)


async def leave(connection: Any) -> None:
    with suppress(core.BaseBumbleError):
        await connection.disconnect()


def refuses(phone: PhonePeripheral, step: str, code: att.ErrorCode) -> None:
    begins = STEPS[step]()

    def on_request(connection: Any, pdu: Any) -> bool:
        if not begins(pdu):
            return False
        answer = att.ATT_Error_Response(
            request_opcode_in_error=pdu.op_code, attribute_handle_in_error=0, error_code=code
        )
        phone.device.gatt_server.send_response(connection, answer)
        return True

    intercept(phone, on_request)


def answers_with(phone: PhonePeripheral, step: str, *answers: bytes) -> None:
    """These bytes on the ATT channel instead of an answer."""
    begins = STEPS[step]()

    def on_request(connection: Any, pdu: Any) -> bool:
        if not begins(pdu):
            return False
        for answer in answers:
            raw(phone, connection, answer)
        return True

    intercept(phone, on_request)


def raw(phone: PhonePeripheral, connection: Any, pdu: bytes) -> None:
    phone.device.gatt_server.send_gatt_pdu(connection, pdu)


def notification(characteristic: Any, value: bytes, *, indication: bool = False) -> bytes:
    """The ATT PDU, whatever the MTU."""
    opcode = Op.ATT_HANDLE_VALUE_INDICATION if indication else Op.ATT_HANDLE_VALUE_NOTIFICATION
    return bytes([opcode]) + int(characteristic.handle).to_bytes(2, "little") + value


def characteristic(uuid: UUID | str, properties: Characteristic.Properties) -> Any:
    return Characteristic(
        str(uuid),
        properties,
        Attribute.READABLE | Attribute.WRITEABLE,
        CharacteristicValue(read=lambda _: b"", write=lambda _, __: None),
    )


def without_cccd(phone: PhonePeripheral, _: UUID) -> None:
    """bumble adds one to whatever notifies; this phone's is something else."""
    add = phone.device.add_service

    def add_service(service: Any) -> None:
        add(service)
        for attribute in phone.device.gatt_server.attributes:
            if attribute.type == CCCD and attribute.handle > service.handle:
                attribute.type = BUMBLE_UUID.from_16_bits(0x2901)

    phone.device.add_service = add_service


def empty_twin(phone: PhonePeripheral, service: UUID) -> None:
    phone.device.add_service(Service(str(service), []))


def reads_only(phone: PhonePeripheral, _: UUID) -> None:
    phone._outgoing = characteristic(ble.PERIPHERAL_SERVER.server_to_client, READ)


def writes_with_response_only(phone: PhonePeripheral, _: UUID) -> None:
    phone._incoming = characteristic(ble.PERIPHERAL_SERVER.client_to_server, WRITE)


def short_uuids(phone: PhonePeripheral, _: UUID) -> None:
    phone._state = characteristic("0001", NOTIFY | WRITE_WITHOUT_RESPONSE)
    phone._incoming = characteristic("0002", WRITE_WITHOUT_RESPONSE)
    phone._outgoing = characteristic("0003", NOTIFY)


def other_role(phone: PhonePeripheral, _: UUID) -> None:
    table = ble.CENTRAL_CLIENT
    phone._state = characteristic(table.state, NOTIFY | WRITE_WITHOUT_RESPONSE)
    phone._incoming = characteristic(table.client_to_server, WRITE_WITHOUT_RESPONSE)
    phone._outgoing = characteristic(table.server_to_client, NOTIFY)


def two_states(phone: PhonePeripheral, service: UUID) -> None:
    add = phone.device.add_service

    def add_service(_: Any) -> None:
        twin = characteristic(ble.PERIPHERAL_SERVER.state, NOTIFY | WRITE_WITHOUT_RESPONSE)
        add(Service(str(service), [phone._state, twin, phone._incoming, phone._outgoing]))

    phone.device.add_service = add_service


def endless(phone: PhonePeripheral, length: int) -> None:
    """Gives an engagement of this length, which no attribute may have."""
    value = bytes(length)

    def on_request(connection: Any, pdu: Any) -> bool:
        size = connection.att_mtu - 1
        if pdu.op_code == Op.ATT_READ_REQUEST:
            answer: Any = att.ATT_Read_Response(attribute_value=value[:size])
        elif pdu.op_code == Op.ATT_READ_BLOB_REQUEST:
            answer = att.ATT_Read_Blob_Response(part_attribute_value=value[pdu.value_offset :][:size])
        else:
            return False
        phone.device.gatt_server.send_response(connection, answer)
        return True

    intercept(phone, on_request)


def asks_to_pair(phone: PhonePeripheral, _: UUID) -> None:
    phone.device.on("connection", lambda connection: connection.request_pairing())


_tasks: set[asyncio.Future[None]] = set()


def in_background(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def on_start(phone: PhonePeripheral, act: Callable[[Any], None]) -> None:
    """In the moment in which the reader writes State = start."""

    def on_request(connection: Any, pdu: Any) -> bool:
        if pdu.op_code == Op.ATT_WRITE_COMMAND and pdu.attribute_value == ble.STATE_START:
            asyncio.get_running_loop().call_soon(act, connection)
        return False

    intercept(phone, on_request)


def state_before_start(phone: PhonePeripheral, _: UUID) -> None:
    def on_request(connection: Any, pdu: Any) -> bool:
        if subscription(pdu):
            asyncio.get_running_loop().call_soon(
                lambda: raw(phone, connection, notification(phone._state, ble.STATE_START))
            )
        return False

    intercept(phone, on_request)


def air_of(phone: PhonePeripheral, air: Air) -> Any:
    return air.controller_of(phone.device)


@dataclass(frozen=True, slots=True)
class Hostile:
    name: str
    errors: tuple[type[LinkError], ...]
    """What the lane may get: from `connect`, or from its first `receive`. None of them: the session works all the same."""
    arrange: Callable[[PhonePeripheral, UUID], None] = lambda _, __: None
    """Before it advertises."""
    on_air: Callable[[PhonePeripheral, Air], None] = lambda _, __: None
    """Once it advertises."""
    act: Callable[[PhonePeripheral], Awaitable[None]] | None = None
    """Once the session has begun."""


LOST = (LinkLostError,)
BROKEN = (LinkProtocolError,)
SILENT = (LinkTimeoutError,)
NOT_REACHED = (LinkLostError, LinkTimeoutError)


async def notify_until_hung_up(phone: PhonePeripheral, *values: bytes, times: int = 1) -> None:
    with suppress(LinkError):
        for _ in range(times):
            for value in values:
                await phone.notify(value)


async def state(phone: PhonePeripheral, value: bytes, times: int = 1) -> None:
    with suppress(LinkError):
        for _ in range(times):
            await phone._notify(phone._state, value)


async def raws(phone: PhonePeripheral, *pdus: bytes) -> None:
    for pdu in pdus:
        raw(phone, phone._connection, pdu)


async def ends_in_the_middle(phone: PhonePeripheral) -> None:
    await phone.notify(b"\x01half a mess")
    await phone.end()


async def vanishes_in_the_middle(phone: PhonePeripheral) -> None:
    await phone.notify(b"\x01half a mess")
    await phone.vanish()


TABLE = [
    # The air.
    Hostile(
        "advertises as non-connectable",
        NOT_REACHED,
        on_air=lambda phone, air: setattr(air_of(phone, air), "connectable", False),
    ),
    Hostile(
        "advertises and never accepts",
        NOT_REACHED,
        on_air=lambda phone, air: setattr(air_of(phone, air), "answers", False),
    ),
    Hostile("disconnects whoever connects", NOT_REACHED, lambda phone, _: drops_at(phone, "connection")),
    # The service.
    Hostile("has a Server2Client that only reads", BROKEN, reads_only),
    Hostile("has a Client2Server that wants responses", BROKEN, writes_with_response_only),
    Hostile("has no CCCD", NOT_REACHED, without_cccd),
    Hostile("has two services of the same UUID, the first empty", BROKEN, empty_twin),
    Hostile("has characteristics with 16-bit UUIDs", BROKEN, short_uuids),
    Hostile("has the other role's characteristics", BROKEN, other_role),
    Hostile("has State twice", BROKEN, two_states),
    # Before start.
    *(
        Hostile(f"never answers from {step} on", NOT_REACHED, lambda phone, _, step=step: silent_from(phone, step))  # type: ignore[misc]  # lambda default
        for step in STEPS
    ),
    *(
        Hostile(f"disconnects at {step}", NOT_REACHED, lambda phone, _, step=step: drops_at(phone, step))  # type: ignore[misc]  # lambda default
        for step in STEPS
    ),
    Hostile(
        "refuses the MTU",
        (),
        lambda phone, _: refuses(phone, "MTU", att.ErrorCode.REQUEST_NOT_SUPPORTED),
    ),
    Hostile(
        "refuses the subscription",
        NOT_REACHED,
        lambda phone, _: refuses(phone, "the first subscription", att.ErrorCode.WRITE_NOT_PERMITTED),
    ),
    Hostile(
        "wants to be paired with for the subscription",
        NOT_REACHED,
        lambda phone, _: refuses(phone, "the second subscription", att.ErrorCode.INSUFFICIENT_AUTHENTICATION),
    ),
    Hostile("asks to pair", (), asks_to_pair),
    Hostile(
        "answers discovery with noise",
        NOT_REACHED + BROKEN,
        lambda phone, _: answers_with(phone, "discovery", b"", b"\x09", b"\x09\x15\x01", b"\x11\x00", b"\xff" * 40),
    ),
    Hostile(
        "answers twice",
        NOT_REACHED,
        lambda phone, _: answers_with(phone, "the first subscription", b"\x13", b"\x13", b"\x03\x05\x00"),
    ),
    Hostile("notifies State before start", BROKEN, state_before_start),
    # The session.
    Hostile(
        "disconnects at State = start",
        LOST,
        lambda phone, _: on_start(phone, lambda connection: in_background(leave(connection))),
    ),
    Hostile("says State = 00", BROKEN, act=lambda phone: state(phone, b"\x00")),
    Hostile("says State = start back", BROKEN, act=lambda phone: state(phone, ble.STATE_START)),
    Hostile("says an empty State", BROKEN, act=lambda phone: state(phone, b"")),
    Hostile("ends at once", (LinkEndedError,), act=lambda phone: phone.end()),
    Hostile("ends in the middle of a message", (LinkEndedError,), act=ends_in_the_middle),
    Hostile("vanishes", LOST, act=lambda phone: phone.vanish()),
    Hostile("vanishes in the middle of a message", LOST, act=vanishes_in_the_middle),
    Hostile("says nothing", SILENT, act=raws),
    Hostile("says half", SILENT, act=lambda phone: phone.notify(b"\x01half a mess")),
    Hostile("uses an unknown prefix", BROKEN, act=lambda phone: phone.notify(b"\x02whatever")),
    Hostile("notifies a value without a prefix", BROKEN, act=lambda phone: phone.notify(b"")),
    Hostile(
        "notifies more than an attribute holds",
        BROKEN,
        act=lambda phone: raws(phone, notification(phone._outgoing, b"\x00" + bytes(600))),
    ),
    Hostile(
        "sends a message over the limit",
        BROKEN,
        act=lambda phone: notify_until_hung_up(phone, b"\x01" + bytes(511), times=limits.MAX_MESSAGE // 511 + 1),
    ),
    Hostile(
        "sends an endless run of empty chunks",
        BROKEN,
        act=lambda phone: notify_until_hung_up(phone, b"\x01", times=FLOOD),
    ),
    Hostile(
        "floods with indications",
        SILENT,
        act=lambda phone: raws(phone, *[notification(phone._outgoing, b"\x00?", indication=True)] * FLOOD),
    ),
    Hostile(
        "floods handles that nobody asked for",
        SILENT,
        act=lambda phone: raws(phone, *[b"\x1b" + bytes([n % 256, 1 + n // 256]) + b"\x00?" for n in range(FLOOD)]),
    ),
    Hostile("floods with State = end", (LinkEndedError,), act=lambda phone: state(phone, ble.STATE_END, FLOOD)),
    Hostile(
        "sends what is no ATT",
        SILENT,
        act=lambda phone: raws(phone, b"", b"\x01", b"\x1b", b"\x1d\x01", b"\xff\xff\xff", b"\x02\x17\x00"),
    ),
]
