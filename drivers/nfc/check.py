"""Checks of a started NFC reader: which one it is, and that it looks into its field."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from drivers.findings import Finding, Result
from drivers.ports import NfcCard, NfcReader

LOOK_S = 1.0
"""Long enough for several looks into an empty field."""


async def answers(name: str, reader: NfcReader) -> list[Finding]:
    """Raises DriverError."""
    card: NfcCard | None = None
    async with aclosing(reader.cards()) as cards:  # type: ignore[type-var]  # the port promises the iterator only
        try:
            async with asyncio.timeout(LOOK_S):
                card = await anext(cards, None)
        except TimeoutError:
            pass  # nobody holds a phone there
    if card is not None:
        await card.release()
    what = model(reader)
    there_ko, there_en = (
        ("전화나 카드가 있습니다", "a phone or card lies there") if card else ("비어 있습니다", "empty")
    )
    return [
        Finding(
            f"nfc.{name}.reader", Result.OK, f"리더가 답합니다: {what or '-'}", f"The reader answers: {what or '-'}"
        ),
        Finding(f"nfc.{name}.field", Result.OK, f"필드를 봅니다: {there_ko}", f"It looks into its field: {there_en}"),
    ]


def model(reader: Any) -> str:
    """As its library names it; empty where it does not. The port has no name for it: only a person has use for one."""
    named: str = getattr(reader, "_name", "")
    if named:
        return named
    device = getattr(getattr(reader, "_frontend", None), "device", None)
    words = (getattr(device, f"{each}_name", "") for each in ("vendor", "product", "chipset"))
    return " ".join(str(each) for each in words if each)
