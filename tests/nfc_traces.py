"""What real wallets said over NFC, from the shared vectors: commands and responses as bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mdoc.apdu import Command

VECTORS = Path(__file__).resolve().parents[1].parent / "shared" / "vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="shared/vectors is not beside the checkout")


def multipaz(handover: str) -> list[tuple[bytes, bytes]]:
    """(command, response) pairs of `Static` or `Negotiated` handover."""
    pairs: list[tuple[bytes, bytes]] = []
    command = b""
    for line in (VECTORS / "nfc" / f"multipaz_test{handover}Handover.txt").read_text().splitlines():
        payload = bytes.fromhex(found[1]) if (found := re.search(r"hex=([0-9a-f]*)", line)) else b""
        if line.startswith("CommandApdu"):
            cla, ins, p1, p2 = (int(value) for value in re.findall(r"(?:cla|ins|p1|p2)=(\d+)", line))
            le = int(re.findall(r"le=(\d+)", line)[0])
            # The transcript prints an absent Le and Le = 00 alike; the application SELECT has one (T4T 5.5.2).
            first = not pairs and not le
            command = Command(cla, ins, p1, p2, payload, 256 if first else le or None).encode()
        elif line.startswith("ResponseApdu"):
            status = int(re.findall(r"status=(\d+)", line)[0])
            pairs.append((command, payload + status.to_bytes(2)))
    return pairs


def apple() -> list[bytes]:
    """Apple Wallet's responses of a negotiated handover; the commands are not in the trace."""
    text = (VECTORS / "nfc" / "apple_wallet_negotiated_responses.txt").read_text()
    return [bytes.fromhex(line.split()[0]) for line in text.splitlines() if line.strip()]


def apple_select() -> bytes:
    """The Handover Select message in it."""
    return bytes.fromhex((VECTORS / "nfc" / "apple_wallet_handover_select.hex").read_text())


def replay(answers: list[bytes], sent: list[bytes]) -> Callable[[bytes], bytes]:
    """A card that gives `answers` in order, whatever it is asked; what it was asked goes into `sent`."""
    left: Iterator[bytes] = iter(answers)

    def answer(command: bytes) -> bytes:
        sent.append(command)
        return next(left)

    return answer
