"""Zero what SQLite leaves behind in a database file: the unused middle of each b-tree page, and pages of the free list.

`secure_delete` overwrites a row where it lies when it is removed. But a row that was moved before, when pages were split or
merged, has left a copy in the gap of the page it came from, and pages freed before `secure_delete` was on still hold what they
held.
File format: https://www.sqlite.org/fileformat2.html sections 1.3, 1.5, 1.6.

    python scrub.py DATABASE FIRST COUNT     pages FIRST to FIRST + COUNT - 1; prints the number of pages changed

Only for controller.erasure, which holds the write lock over an empty write-ahead log meanwhile: no page changes, and no reader
looks at what is zeroed, so that a crash at any point leaves a whole database. It runs as a process of its own because closing a
file drops every POSIX lock that the same process has on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

HEADER = 100
TRUNK, LEAF_INDEX, LEAF_TABLE, INNER_INDEX, INNER_TABLE = 0, 10, 13, 2, 5
HEADS = {LEAF_INDEX: 8, LEAF_TABLE: 8, INNER_INDEX: 12, INNER_TABLE: 12}
"""Type of a b-tree page: bytes of its header."""
MAX_PAGES = 1 << 25
"""An overflow page begins with a page number: below this it cannot look like a b-tree page."""
LOCK_BYTE = 1 << 30
"""The page that holds it is never used."""


class ScrubError(Exception):
    """Not a database that this module understands."""


def number(page: bytes, at: int, length: int) -> int:
    return int.from_bytes(page[at : at + length], "big")


def layout(header: bytes) -> tuple[int, int, int, int]:
    """Page size, usable bytes of a page, number of pages, first page of the free list. Raises ScrubError."""
    if header[:16] != b"SQLite format 3\0":
        raise ScrubError("no SQLite database")
    size = number(header, 16, 2)
    size = 65536 if size == 1 else size
    pages = number(header, 28, 4)
    if size < 512 or size & (size - 1) or number(header, 52, 4) or not 0 < pages < MAX_PAGES:
        raise ScrubError("page size, number of pages or auto_vacuum")
    return size, size - header[20], pages, number(header, 32, 4)


def unused(page: bytes, index: int, usable: int, free: Mapping[int, int | None]) -> tuple[int, int] | None:
    """First and end of what nobody reads in a page; None: nothing, or not understood. `free`: pages of the free list, with the
    number of entries where it is a trunk."""
    if index in free:
        entries = free[index]
        return (0, len(page)) if entries is None else (8 + 4 * entries, len(page))
    head = HEADER if index == 1 else 0
    length = HEADS.get(page[head])
    if length is None:
        return None
    begin = head + length + 2 * number(page, head + 3, 2)
    end = number(page, head + 5, 2) or 65536
    return (begin, end) if begin < end <= usable else None


def free_list(descriptor: int, size: int, usable: int, pages: int, trunk: int) -> dict[int, int | None]:
    """Pages of the free list: None, or for a trunk the number of its entries. Raises ScrubError."""
    found: dict[int, int | None] = {}
    while trunk:
        if trunk in found or not 1 < trunk <= pages:
            raise ScrubError("free list")
        page = os.pread(descriptor, size, (trunk - 1) * size)
        entries = number(page, 4, 4)
        if entries > usable // 4 - 2:
            raise ScrubError("free list")
        found[trunk] = entries
        for at in range(8, 8 + 4 * entries, 4):
            found[number(page, at, 4)] = None
        trunk = number(page, 0, 4)
    return found


def scrub(path: str, first: int, count: int) -> int:
    """Raises ScrubError, OSError."""
    descriptor = os.open(path, os.O_RDWR)
    changed = 0
    try:
        size, usable, pages, trunk = layout(os.pread(descriptor, HEADER, 0))
        free = free_list(descriptor, size, usable, pages, trunk)
        for index in range(first, min(first + count, pages + 1)):
            offset = (index - 1) * size
            if offset == LOCK_BYTE:
                continue
            page = os.pread(descriptor, size, offset)
            if len(page) != size:
                raise ScrubError("shorter than it says")
            part = unused(page, index, usable, free)
            if part is not None and page.count(0, *part) != part[1] - part[0]:
                os.pwrite(descriptor, bytes(part[1] - part[0]), offset + part[0])
                changed += 1
        if changed:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return changed


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{scrub(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))}\n")
    except (ScrubError, OSError) as error:
        sys.exit(str(error))
