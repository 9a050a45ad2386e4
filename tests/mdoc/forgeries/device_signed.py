"""Elements that the device signs of its own, without the issuer's leave (18013-5 9.1.2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mdoc.verdict import Failure
from tests.mdoc.forgeries.builder import (
    SPACE,
    Forgery,
    Gate,
    Plan,
    expect,
    response,
)
from tests.mdoc.forgeries.genuine import DEVICE_ASKED, authorized
from tests.mdoc.forgeries.values import (
    ALTERED,
    MALFORMED,
)
from tests.mdoc.forgeries.wire import (
    Hook,
    Tagged,
    drop,
    indefinite,
    pairs,
    put,
    under,
    write,
)

UNASKED = expect(Failure.MALFORMED, Failure.ALTERED)


def _said() -> Iterator[tuple[str, Plan, frozenset[Failure]]]:
    """Elements that the device signs of its own (9.1.2.4)."""
    said: dict[str, Any] = {"device_spaces": put(SPACE, {"locker": 7})}
    yield "without authorization", Plan(**said), ALTERED
    yield "authorized for another element", authorized({SPACE: ["other"]}), ALTERED
    yield "authorized in another namespace", authorized({"other": ["locker"]}), ALTERED
    yield "another namespace authorized", authorized(spaces=["other"]), ALTERED
    yield "authorized for nothing", authorized({}, []), ALTERED
    yield "authorized for an empty list", authorized({SPACE: []}), ALTERED
    yield "a name that begins like the authorized one", authorized({SPACE: ["lock"]}), ALTERED
    yield "a namespace that begins like the authorized one", authorized(spaces=[SPACE[:-2]]), ALTERED
    clearance = replace(authorized({SPACE: ["locker"]}), device_spaces=put(SPACE, {"locker": 7, "agency_code": "0"}))
    yield "one authorized and an issuer's element", clearance, ALTERED
    unasked = replace(authorized(spaces=[SPACE]), device_spaces=put(SPACE, {"locker": 7, "clearance": "top"}))
    yield "authorized and not asked", unasked, UNASKED
    strange = replace(authorized(spaces=[SPACE, "x"]), device_spaces=put("x", {"locker": 7}))
    yield "of an authorized namespace that nobody asked", strange, UNASKED
    twice_said = replace(authorized({SPACE: ["card_type"]}), device_spaces=put(SPACE, {"card_type": "guard"}))
    yield "an authorized element that the issuer signed too", twice_said, ALTERED
    shadow = Plan(device_spaces=put(SPACE, {"access_class": "vault"}))
    yield "an issuer's element overwritten", shadow, ALTERED
    moved = Plan(
        released=lambda items: {space: entries for space, entries in items.items() if space != SPACE},
        device_spaces=put(SPACE, {"agency_code": "1741000", "card_type": "staff", "access_class": "general"}),
    )
    yield "all of the issuer's elements by the device alone", moved, ALTERED
    unsigned = replace(authorized({SPACE: ["locker"]}), mso=put("keyAuthorizations", {"nameSpaces": [SPACE]}))
    yield "authorized outside deviceKeyInfo", unsigned, ALTERED
    for name, value in (
        ("nameSpaces as text", {"nameSpaces": SPACE}),
        ("nameSpaces as a map", {"nameSpaces": {SPACE: True}}),
        ("nameSpaces of bytes", {"nameSpaces": [SPACE.encode()]}),
        ("dataElements as an array", {"dataElements": [[SPACE, "locker"]]}),
        ("elements as text", {"dataElements": {SPACE: "locker"}}),
        ("elements as true", {"dataElements": {SPACE: True}}),
        ("true", True),
        ("text", "all"),
        ("an array", [SPACE]),
    ):
        plan = Plan(mso=under("deviceKeyInfo", put("keyAuthorizations", value)), **said)
        yield f"authorizations: {name}", plan, MALFORMED
    hook: Hook
    for name, hook in (
        ("an array of namespaces", lambda _: []),
        ("nil", lambda _: None),
        ("a namespace that is bytes", lambda _: {b"x": {}}),
        ("a namespace that is a number", lambda _: {1: {}}),
        ("elements as an array", lambda _: {SPACE: []}),
        ("elements as nil", lambda _: {SPACE: None}),
        ("an element that is a number", lambda _: {SPACE: {1: 1}}),
        ("an element that is bytes", lambda _: {SPACE: {b"locker": 1}}),
        ("a namespace twice", lambda _: pairs([(SPACE, {"locker": 1}), (SPACE, {"locker": 2})])),
        ("an element twice", lambda _: {SPACE: pairs([("locker", 1), ("locker", 2)])}),
        ("of indefinite length", lambda _: indefinite({})),
        ("tagged", lambda _: Tagged(24, b"\xa0")),
        ("a member of an element twice", lambda _: {SPACE: {"locker": pairs([("a", 1), ("a", 2)])}}),
    ):
        yield f"namespaces: {name}", replace(authorized(spaces=[SPACE]), device_spaces=hook), MALFORMED
    for name, change in (
        ("a byte after them", lambda found: found + b"\0"),
        ("cut short", lambda found: b""),
        ("two maps", lambda found: found * 2),
    ):
        yield f"namespaces: {name}", Plan(device_spaces_bytes=change), MALFORMED
    untagged = Plan(device_signed=put("nameSpaces", write({})))
    yield "namespaces without their tag", untagged, MALFORMED
    yield "namespaces as a map", Plan(device_signed=put("nameSpaces", {})), MALFORMED
    yield "no namespaces", Plan(device_signed=drop("nameSpaces")), MALFORMED


def forgeries() -> Iterator[Forgery]:
    for name, plan, expected in _said():
        raw, gate = response(plan), Gate(asked=DEVICE_ASKED)
        yield Forgery(name=f"device says: {name}", clause="9.1.2.4", raw=raw, expected=expected, gate=gate)
