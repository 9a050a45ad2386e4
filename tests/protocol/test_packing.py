"""A batch gives back the exact bytes of its records."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import events, packing
from protocol.events import Kind

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def record(seq: int, why: str) -> bytes:
    return events.build(
        site="hq",
        gate="gate-1",
        epoch="e1",
        seq=seq,
        kind=Kind.DEVICE_DEGRADED,
        time=datetime(2026, 11, 24, tzinfo=UTC),
        prevhash=events.GENESIS,
        data={"why": why},
    )


@given(st.lists(TEXT, min_size=1, max_size=packing.MAX_RECORDS))
def test_records_come_back_byte_for_byte_whatever_text_they_hold(texts: list[str]) -> None:
    records = [record(seq, why) for seq, why in enumerate(texts, 1)]
    payload = packing.pack(records)
    assert packing.packed(payload)
    assert packing.split(payload) == records
    assert json.loads(payload) == [json.loads(each) for each in records]


def test_a_single_record_is_no_batch() -> None:
    assert not packing.packed(record(1, ""))


def test_as_many_fit_as_the_limits_allow() -> None:
    small, large = record(1, "x"), record(1, "x" * 7000)
    assert packing.fitting([]) == 0
    assert packing.fitting([small] * 300) == packing.MAX_RECORDS
    fit = packing.fitting([large] * 20)
    assert len(packing.pack([large] * fit)) <= packing.MAX_BYTES < len(packing.pack([large] * (fit + 1)))


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda raw: b"[\n" + raw + b"\n]"))
def test_any_bytes_are_a_batch_or_one_typed_error(raw: bytes) -> None:
    try:
        found = packing.split(raw)
    except packing.PackError:
        return
    assert packing.pack(found) == raw


def test_more_records_than_the_limit_are_refused() -> None:
    with pytest.raises(packing.PackError):
        packing.split(packing.pack([b"{}"] * (packing.MAX_RECORDS + 1)))
