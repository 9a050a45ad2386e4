"""NFC: readers (nfcpy, PC/SC), reading a phone's engagement, and the session over NFC data transfer.

`open_reader` gives the reader, `engage(card, clock)` the engagement, `NfcEngagement.open_link()` the link.
"""

from __future__ import annotations

from drivers.ports import NfcReader
from protocol.clock import Clock

__all__ = ["open_reader"]


def open_reader(
    *,
    driver: str = "nfcpy",
    path: str = "",
    reader: str = "",
    ecp: bool = True,
    max_apdu: int | None = None,
    clock: Clock,
) -> NfcReader:
    """The reader, not yet started. Raises ValueError for an unknown driver, options that cannot be meant, or a library that
    is not installed.

    nfcpy: `path` is `tty:AMA0:pn532`, `usb:054c:06c3`, or `udp:127.0.0.1:PORT` for the virtual antenna; `ecp` calls up an
    iPhone's ID pass where the chip can. pcsc: `reader` is its number or name; `max_apdu` as in `PcscReader`.
    """
    # Each library is loaded only where a reader of its own is configured.
    if driver == "nfcpy":
        from drivers.nfc.reader import NfcpyReader  # noqa: PLC0415

        return NfcpyReader(path, clock, ecp=ecp)
    if driver == "pcsc":
        from drivers.nfc.pcsc import PcscReader  # noqa: PLC0415

        return PcscReader(reader, clock, max_apdu=max_apdu)
    raise ValueError("NFC driver: nfcpy or pcsc is expected")
