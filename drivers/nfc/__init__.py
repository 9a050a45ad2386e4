"""NFC: readers (nfcpy), reading a phone's engagement, and the session over NFC data transfer.

`open_reader` gives the reader, `engage(card, clock)` the engagement, `NfcEngagement.open_link()` the link.
"""

from __future__ import annotations

from drivers.ports import NfcReader
from protocol.clock import Clock

__all__ = ["open_reader"]


def open_reader(*, driver: str = "nfcpy", path: str, clock: Clock) -> NfcReader:
    """The reader at `path`, not yet started. Raises ValueError for an unknown driver or a path that cannot be one.

    `path`: `tty:AMA0:pn532`, `usb:054c:06c3`, or `udp:127.0.0.1:PORT` for the virtual antenna.
    """
    if driver != "nfcpy":
        raise ValueError("NFC driver: nfcpy is expected")
    from drivers.nfc.reader import NfcpyReader  # noqa: PLC0415  # the library is loaded where a reader is configured

    return NfcpyReader(path, clock)
