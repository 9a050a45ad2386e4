"""Messages of others as further seeds, where the shared vectors lie beside the checkout. They are read, never copied in here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "vectors"

_FILES: Mapping[str, tuple[str, ...]] = {
    "cbor": ("presentations/*_device_response.hex", "annexd/device_response.hex", "annexd/device_request.hex"),
    "response": ("presentations/*_device_response.hex", "annexd/device_response.hex"),
    "verify": ("presentations/*_device_response.hex", "annexd/device_response.hex"),
    "cose": ("annexd/issuer_auth.hex", "annexd/reader_auth.hex", "vical/*.cbor"),
    "request": ("annexd/device_request.hex",),
    "engagement": ("annexd/device_engagement.hex",),
    "ndef": ("annexd/nfc_handover_*.hex", "nfc/*.hex"),
    "session": ("annexd/session_establishment.hex", "annexd/session_data.hex", "annexd/session_termination.hex"),
    "vical": ("vical/*.cbor",),
    "certificate": ("annexd/*_cert.hex",),
}


def seeds(target: str) -> list[bytes]:
    """Files for `target`, hexadecimal or plain; none where there are no vectors."""
    files = [path for pattern in _FILES.get(target, ()) for path in sorted(FOLDER.glob(pattern))]
    return [bytes.fromhex(path.read_text()) if path.suffix == ".hex" else path.read_bytes() for path in files]
