"""One genuine response, changed in every place in every way: nothing is accepted but what provably says the same."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc.statuslist import StatusLists
from tests.mdoc import forge
from tests.mdoc.conftest import World

SIGNED = ("inside", "inside tag")
"""Below these names stands what issuer or device signed or hashed, byte for byte."""

SAME: dict[str, str] = {
    "1-byte head": "a head longer than needed, around or between what is signed",
    "2-byte head": "the same",
    "4-byte head": "the same",
    "8-byte head": "the same",
    "entries turned round": "maps and the list of items have no order",
    "unknown member": "members of newer versions are not looked at",
    "tagged 18": "a COSE_Sign1 may carry its own tag",
    "becomes undefined": "undefined in place of nil says the same: no payload is attached",
    "in an array": "x5chain as an array of one certificate",
    "last bit": "version 1.0 as 1.1, of the response",
}
"""Changes that may be let through, each with why nothing rests on it."""


def _opened(content: bytes) -> bool:
    """Byte strings that hold CBOR: items, MSO, device namespaces (maps), the MSO's tag, the protected header."""
    return content[:2] == b"\xd8\x18" or (len(content) > 0 and content[0] >> 5 == forge.MAP and _is_map(content))


def _is_map(content: bytes) -> bool:
    try:
        forge.read(content, lambda _: False)
    except (ValueError, IndexError, RecursionError):
        return False
    return True


@pytest.mark.parametrize("mac", [False, True], ids=["signature", "mac"])
def test_no_structural_change_is_accepted_that_says_anything_else(world: World, mac: bool) -> None:
    raw, reader = world.response(mac=mac)
    status = world.status()
    genuine = world.verify(raw, reader, status=status).elements
    root = forge.read(raw, _opened)
    assert root.encode() == raw
    accepted: Counter[str] = Counter()
    tried = 0
    for path, change, forged in forge.mutated(root):
        tried += 1
        verdict = world.verify(forged, reader, status=status)
        if not verdict.accepted:
            continue
        place = f"{'/'.join(path)}: {change}"
        assert change in SAME, place
        assert verdict.elements == genuine, place
        assert not _inside_signed(path), place
        accepted[change] += 1
    assert tried > 3000
    assert set(accepted) == set(SAME), "every row of the table is needed"


def _inside_signed(path: tuple[str, ...]) -> bool:
    return any(step in SIGNED for step in path)


def test_no_changed_byte_is_accepted_with_other_elements(world: World) -> None:
    raw, reader = world.response()
    status = world.status()
    genuine = world.verify(raw, reader, status=status).elements
    for at in range(len(raw)):
        forged = raw[:at] + bytes((raw[at] ^ 1 << (at % 8),)) + raw[at + 1 :]
        verdict = world.verify(forged, reader, status=status)
        assert not verdict.accepted or verdict.elements == genuine, at


def test_no_response_cut_short_or_with_more_behind_it_is_accepted(world: World) -> None:
    raw, reader = world.response()
    for size in range(len(raw)):
        assert world.verify(raw[:size], reader, status=StatusLists()).reason == "malformed"
    assert world.verify(raw + b"\x00", reader).reason == "malformed"


@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.data())
def test_pieces_of_two_genuine_responses_never_make_a_third(world: World, data: st.DataObject) -> None:
    one, reader = world.response()
    other, _ = world.response()
    cut = data.draw(st.integers(1, min(len(one), len(other)) - 1))
    verdict = world.verify(one[:cut] + other[cut:], reader, status=world.status())
    genuine = one[:cut] + other[cut:] == one
    assert verdict.accepted == genuine
