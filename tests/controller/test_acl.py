"""The access list gives each leaf to exactly one writer, and nothing to anybody who is not enrolled."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import acl
from protocol import topics

GATES = st.lists(st.from_regex(topics.ID, fullmatch=True).filter(lambda g: g not in {"all", "controller"}), max_size=6)


def rights(text: str) -> dict[str, set[tuple[str, str]]]:
    """{user: {(access, topic)}}"""
    found: dict[str, set[tuple[str, str]]] = {}
    user = ""
    for line in text.splitlines():
        match line.split():
            case ["user", name]:
                user = name
                found[user] = set()
            case ["topic", access, topic]:
                found[user].add((access, topic))
    return found


@given(GATES)
def test_every_line_is_a_right_of_one_named_client(gates: list[str]) -> None:
    text = acl.render("hq", gates)
    line = re.compile(r"(#.*|user [a-z0-9-]+|topic (read|write) pacs/1/hq/[a-z0-9+-]+/[a-z0-9/+-]+|)")
    assert all(line.fullmatch(each) for each in text.splitlines())
    assert set(rights(text)) == {"controller", *gates}
    assert acl.render("hq", reversed(gates)) == text


@given(GATES)
def test_a_gate_writes_under_its_own_name_only_and_never_what_the_controller_writes(gates: list[str]) -> None:
    for gate, granted in rights(acl.render("hq", gates)).items():
        if gate == "controller":
            continue
        written = {topic for access, topic in granted if access == "write"}
        assert all(topic.startswith(f"pacs/1/hq/{gate}/") for topic in written)
        assert not {topic.rsplit("/", 1)[-1] for topic in written} & {"ack", "replay", "time"}
        read = {topic for access, topic in granted if access == "read"}
        assert read == {
            topics.ack("hq", gate),
            topics.replay("hq", gate),
            topics.time("hq"),
            topics.zone_tags("hq", "+"),
        }


@pytest.mark.parametrize("gate", ["all", "controller", "a b", "x\ntopic write #", "+", "#", ""])
def test_a_name_that_is_no_gates_is_refused(gate: str) -> None:
    with pytest.raises(ValueError, match="not a gate's id"):
        acl.render("hq", [gate])
