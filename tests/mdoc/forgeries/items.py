"""Items that are not what 18013-5 9.1.2.5 asks, as issued, and items that a holder changed, moved or invented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mdoc.verdict import Failure
from tests.mdoc.forgeries.builder import (
    ELEMENTS,
    OTHER_SPACE,
    SPACE,
    Forgery,
    Plan,
    response,
)
from tests.mdoc.forgeries.values import (
    ALTERED,
    MALFORMED,
    MISSING,
    NOT_A_NUMBER,
    NOT_TEXT,
)
from tests.mdoc.forgeries.wire import (
    Hook,
    Raw,
    Tagged,
    again,
    drop,
    indefinite,
    pairs,
    put,
    renamed,
    twice,
    under,
    write,
)


def _items() -> Iterator[tuple[str, str, Plan, frozenset[Failure]]]:
    """Items as issued: the digest is right, the form is not."""
    for member in ("digestID", "random", "elementIdentifier", "elementValue"):
        yield f"no {member}", "9.1.2.5", Plan(item=drop(member)), MALFORMED
        yield f"{member} twice", "RFC 8949 5.6", Plan(item=again(member)), MALFORMED
        yield f"{member} twice, another last", "RFC 8949 5.6", Plan(item=twice(member, "x")), MALFORMED
        yield f"{member} twice, another first", "RFC 8949 5.6", Plan(item=twice(member, "x", first=True)), MALFORMED
        yield f"{member} in capitals", "9.1.2.5", Plan(item=renamed(member, member.upper())), MALFORMED
    for name, value in NOT_A_NUMBER.items():
        yield f"digestID {name}", "9.1.2.5", Plan(item=put("digestID", value)), MALFORMED
    for name, value in NOT_TEXT.items():
        expected = MALFORMED if name != "empty" else MALFORMED | ALTERED
        yield f"elementIdentifier {name}", "9.1.2.5", Plan(item=put("elementIdentifier", value)), expected
    for name, value in (
        ("of 15 bytes", bytes(15)),
        ("empty", b""),
        ("of a kilobyte", bytes(1024)),
        ("text", "x" * 32),
        ("nil", None),
        ("a number", 1 << 60),
        ("of indefinite length", indefinite(bytes(32))),
    ):
        yield f"random {name}", "9.1.2.5", Plan(item=put("random", value)), MALFORMED
    for name, value in (
        ("a map with a key twice", pairs([("a", 1), ("a", 2)])),
        ("an array with such a map", [pairs([("a", 1), ("a", 2)])]),
        ("no UTF-8", Raw(b"\x61\xff")),
        ("of indefinite length", indefinite("text")),
        ("an endless array", Raw(b"\x9f")),
        ("a break", Raw(b"\xff")),
        ("a reserved simple value", Raw(b"\xf8\x14")),
        ("a reserved head", Raw(b"\x1c")),
        ("nested 100 deep", Raw(b"\x81" * 100 + b"\0")),
        ("nested 100 maps deep", Raw(b"\xa1\x00" * 100 + b"\0")),
        ("tagged 100 times", Raw(b"\xc1" * 100 + b"\0")),
        ("tag 24 around a number", Tagged(24, 1)),
        ("a map with an array as key", pairs([([1], 1)])),
        ("a map with a float as key", pairs([(Raw(b"\xf9\x00\x00"), 1)])),
        ("a map with nil as key", pairs([(None, 1)])),
    ):
        yield f"elementValue {name}", "RFC 8949 5.3", Plan(item=put("elementValue", value)), MALFORMED
    yield "of indefinite length", "limits", Plan(item=indefinite), MALFORMED
    yield "its values alone", "9.1.2.5", Plan(item=lambda body: list(body.values())), MALFORMED
    yield "a byte after it", "9.1.2.5", Plan(item_bytes=lambda plain: plain + b"\0"), MALFORMED
    yield "two in one", "9.1.2.5", Plan(item_bytes=lambda plain: plain * 2), MALFORMED
    yield "cut short", "9.1.2.5", Plan(item_bytes=lambda plain: plain[:-1]), MALFORMED
    yield "empty", "9.1.2.5", Plan(item_bytes=lambda _: b""), MALFORMED
    yield "the same digestID for all", "9.1.2.5", Plan(item=put("digestID", 0)), ALTERED
    for name, hook, expected in _released():
        yield name, "9.3.1 step 3", Plan(released=hook), expected


OTHER = Plan(
    salt="another person",
    elements={SPACE: {**ELEMENTS[SPACE], "access_class": "vault"}, OTHER_SPACE: ELEMENTS[OTHER_SPACE]},
)


def _changed(old: bytes, new: bytes) -> Hook:
    """Bytes replaced in every item of SPACE, after issuing; lengths are put right."""

    def one(item: Raw) -> Raw:
        content = item.content[4:].replace(old, new)
        return Raw(write(Tagged(24, content)))

    return under(SPACE, lambda items: [one(item) for item in items])


def _released() -> Iterator[tuple[str, Hook, frozenset[Failure]]]:
    """On {namespace: [IssuerSignedItemBytes]} after issuing: what a holder could send."""
    hidden = Raw(Plan().hidden_item())
    strange, _ = OTHER.issued_items()
    unasked = MALFORMED | ALTERED

    def first(items: Any) -> Raw:
        found = items[SPACE][0]
        assert isinstance(found, Raw)
        return found

    def at_first(hook: Hook) -> Hook:
        return under(SPACE, lambda items: [hook(items[0]), *items[1:]])

    yield "a value altered", _changed(b"\x67general", b"\x65vault"), ALTERED
    yield "a value altered to one of the same length", _changed(b"general", b"officer"), ALTERED
    yield "a value altered to another type", _changed(b"\x67general", b"\x01"), ALTERED
    yield "a value tagged", _changed(b"\x67general", b"\xd8\x20\x67general"), ALTERED
    yield "an identifier altered", _changed(b"card_type", b"card_tYpe"), MALFORMED | ALTERED
    yield "two identifiers exchanged", _exchanged, ALTERED
    yield "random altered", _changed(b"\x66random\x58\x20", b"\x66random\x58\x21\0"), ALTERED
    yield "digestID altered", _changed(b"digestID\x00", b"digestID\x01"), ALTERED
    yield "members in another order", at_first(_reordered), ALTERED
    yield "a longer head of the tag", at_first(lambda item: Raw(b"\xd9\x00\x18" + item.content[2:])), ALTERED
    yield "a longer head of the string", at_first(_longer_string), ALTERED
    yield "a longer head of the map", at_first(_longer_map), ALTERED
    yield "a member more", at_first(_member_more), ALTERED
    yield "without tag", at_first(lambda item: Raw(item.content[2:])), MALFORMED
    yield "another tag", at_first(lambda item: Raw(b"\xd8\x19" + item.content[2:])), MALFORMED
    yield "the tag twice", at_first(lambda item: Raw(b"\xd8\x18" + item.content)), MALFORMED
    yield "the map itself", at_first(lambda item: Raw(item.content[4:])), MALFORMED
    yield "nil", at_first(lambda _: None), MALFORMED
    yield "one from another credential", put(SPACE, [Raw(item) for item in strange[SPACE]]), ALTERED
    yield "one of them from another credential", at_first(lambda _: Raw(strange[SPACE][2])), ALTERED
    yield (
        "one of another credential beside",
        lambda items: {**items, SPACE: [*items[SPACE], Raw(strange[SPACE][2])]},
        ALTERED,
    )
    yield "one twice", lambda items: {**items, SPACE: [*items[SPACE], first(items)]}, ALTERED
    yield "all twice", lambda items: {**items, SPACE: items[SPACE] * 2}, ALTERED
    yield (
        "one in the other namespace too",
        lambda items: {**items, OTHER_SPACE: [*items[OTHER_SPACE], first(items)]},
        unasked,
    )
    yield "namespaces exchanged", lambda items: {SPACE: items[OTHER_SPACE], OTHER_SPACE: items[SPACE]}, unasked
    yield "an invented one", lambda items: {**items, SPACE: [*items[SPACE], invented("clearance")]}, unasked
    yield "an invented one in the place of a genuine one", at_first(lambda _: invented("agency_code")), ALTERED
    yield "an invented namespace", put("org.example.clearance", [invented("clearance")]), unasked
    yield "a genuine namespace under another name", lambda items: {**drop(SPACE)(items), "x": items[SPACE]}, unasked
    yield "one that nobody asked for", lambda items: {**items, SPACE: [*items[SPACE], hidden]}, unasked
    yield "one in the place of another", at_first(lambda _: hidden), unasked
    yield "one missing", under(SPACE, lambda items: items[1:]), MISSING
    yield "a namespace missing", drop(OTHER_SPACE), MISSING
    yield "all missing", lambda _: {}, MISSING
    yield "a namespace empty", put(OTHER_SPACE, []), MALFORMED | MISSING
    yield "nil in place of all", lambda _: None, MISSING
    yield "a namespace twice", lambda items: pairs([*items.items(), (SPACE, items[SPACE])]), MALFORMED
    yield (
        "a namespace twice, altered last",
        lambda items: pairs([*items.items(), (SPACE, [invented("card_type")])]),
        MALFORMED,
    )
    yield (
        "a namespace twice, altered first",
        lambda items: pairs([(SPACE, [invented("card_type")]), *items.items()]),
        MALFORMED,
    )
    yield "a namespace that is bytes", lambda items: {**items, b"x": items[SPACE]}, MALFORMED
    yield "a namespace that is a number", lambda items: {**items, 1: items[SPACE]}, MALFORMED
    yield "items as a map", under(SPACE, lambda items: dict(enumerate(items))), MALFORMED
    yield "items in an array more", under(SPACE, lambda items: [items]), MALFORMED
    yield (
        "items in one string",
        under(SPACE, lambda items: Tagged(24, b"".join(item.content for item in items))),
        MALFORMED,
    )
    yield "an array in their place", lambda items: list(items.values()), MALFORMED
    yield "tagged", lambda items: Tagged(24, write(items)), MALFORMED
    yield "all of indefinite length", indefinite, MALFORMED


def _exchanged(items: dict[str, list[Raw]]) -> dict[str, list[Raw]]:
    def other(item: Raw) -> Raw:
        content = (
            item.content[4:]
            .replace(b"\x69card_type", b"\x6baccess_clasz")
            .replace(b"\x6caccess_class", b"\x69card_type")
        )
        return Raw(write(Tagged(24, content.replace(b"\x6baccess_clasz", b"\x6caccess_class"))))

    return {**items, SPACE: [other(item) for item in items[SPACE]]}


def _reordered(item: Raw) -> Raw:
    content = item.content[4:]
    number, rest = content[1:11], content[11:]
    return Raw(write(Tagged(24, content[:1] + rest + number)))


def _longer_string(item: Raw) -> Raw:
    content = item.content[4:]
    return Raw(b"\xd8\x18\x59" + len(content).to_bytes(2, "big") + content)


def _longer_map(item: Raw) -> Raw:
    return Raw(write(Tagged(24, b"\xb8\x04" + item.content[5:])))


def _member_more(item: Raw) -> Raw:
    return Raw(write(Tagged(24, b"\xa5" + item.content[5:] + write("x") + b"\0")))


def invented(element: str) -> Raw:
    body = {"digestID": 0, "random": bytes(32), "elementIdentifier": element, "elementValue": "top"}
    return Raw(write(Tagged(24, write(body))))


def forgeries() -> Iterator[Forgery]:
    for name, clause, plan, expected in _items():
        yield Forgery(name=f"item: {name}", clause=clause, raw=response(plan), expected=expected)
