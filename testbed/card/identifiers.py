"""The two numbers of a PIV card: FASC-N (TIG SCEPACS 2.3, table 3-1) and card UUID. Made-up, and each occurs nowhere else."""

from __future__ import annotations

from collections.abc import Callable

Random = Callable[[int], bytes]
AGENCY = "9999"
"""The agency code of issuers that have none (SP 800-73-5 part 1 3.1.2)."""
_START, _SEPARATOR, _END = 0xB, 0xD, 0xF


def _character(value: int) -> str:
    """Four bits, lowest first, and one that makes the number of ones odd."""
    bits = f"{value:04b}"[::-1]
    return bits + ("1" if bits.count("1") % 2 == 0 else "0")


def fasc_n(
    *, agency: str = AGENCY, system: str, credential: str, series: str = "0", issue: str = "1", person: str, rest: str
) -> bytes:
    """25 bytes from the decimal fields: agency and system code (4 digits each), credential number (6), credential series and
    individual credential issue (1 each), person identifier (10), `rest`: organisation category (1), organisation identifier
    (4) and association category (1). Raises ValueError for other lengths.
    """
    fields = (agency, system, credential, series, issue)
    if [len(each) for each in (*fields, person, rest)] != [4, 4, 6, 1, 1, 10, 6]:
        raise ValueError("FASC-N: a field of another length")
    characters = [_START]
    for each in fields:
        characters += [*map(int, each), _SEPARATOR]
    characters += [*map(int, person + rest), _END]
    check = 0
    for value in characters:
        check ^= value
    bits = "".join(map(_character, [*characters, check]))
    return int(bits, 2).to_bytes(25)


def random_fasc_n(random_bytes: Random) -> bytes:
    """Credential number and person identifier by chance."""
    return fasc_n(
        system="0001",
        credential=_digits(random_bytes, 6),
        person=_digits(random_bytes, 10),
        rest="1" + AGENCY + "1",
    )


def random_uuid(random_bytes: Random) -> bytes:
    """Version 4 (RFC 4122 4.4)."""
    raw = bytearray(random_bytes(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def _digits(random_bytes: Random, count: int) -> str:
    return f"{int.from_bytes(random_bytes(8)) % 10**count:0{count}d}"
