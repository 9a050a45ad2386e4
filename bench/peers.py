"""Other Python readers on the same presentation, where the extra `bench` has installed them. Each does less than ours; the row
says what it leaves out, so that the figures are not taken for a race between equals.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from importlib import metadata

import cbor2
from cryptography import x509


def peers(
    response: bytes, transcript: bytes, root: x509.Certificate
) -> Iterator[tuple[str, Callable[[], object] | None]]:
    """(name, a call that verifies `response`), or (name with the reason, None) for one that is not there or refuses it."""
    logging.getLogger("pymdoccbor").setLevel(logging.CRITICAL)
    known: tuple[tuple[str, str, Callable[[], Callable[[], object]]], ...] = (
        ("isomdoc", "no chain, no dates, no status, no MAC", lambda: _isomdoc(response, transcript)),
        ("pymdoccbor", "no device authentication, no dates, no status", lambda: _pymdoccbor(response, root)),
    )
    for package, leaves_out, build in known:
        try:
            call = build()
        except ImportError:
            yield f"{package}: not installed (pip install -e .[bench])", None
            continue
        name = f"{package} {metadata.version(package)} ({leaves_out})"
        try:
            call()
        except Exception as error:
            yield f"{name}: refuses the presentation, {type(error).__name__}", None
        else:
            yield name, call


def _isomdoc(response: bytes, transcript: bytes) -> Callable[[], object]:
    verify: Callable[[bytes, object], object] = importlib.import_module("isomdoc").verify_device_response
    decoded = cbor2.loads(transcript)
    return lambda: verify(response, decoded)


def _pymdoccbor(response: bytes, root: x509.Certificate) -> Callable[[], object]:
    reader = importlib.import_module("pymdoccbor.mdoc.verifier").MdocCbor

    def run() -> None:
        mdoc = reader()
        mdoc.loads(response)
        if not mdoc.verify([root]):
            raise ValueError("not valid")

    return run
