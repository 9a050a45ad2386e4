"""Words laid out for a display of few characters: lines, then pages that are shown in turn. Nothing here knows a device."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

Page = tuple[str, ...]
"""One line for each row, each as wide as the display."""


def width(text: str) -> int:
    """Cells: Hangul takes two."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def plain(text: str) -> str:
    """Without anything that a display could take for a command."""
    return "".join(each if unicodedata.category(each)[0] != "C" else " " for each in text)


def _pieces(word: str, columns: int) -> Iterator[str]:
    """A word that is wider than the display, cut."""
    piece = ""
    for each in word:
        if width(piece + each) > columns:
            yield piece
            piece = ""
        piece += each
    yield piece


def lines(text: str, columns: int) -> list[str]:
    """Broken at spaces; only a word that is wider than the display is cut."""
    found: list[str] = []
    line = ""
    for word in plain(text).split():
        for piece in _pieces(word, columns):
            joined = f"{line} {piece}" if line else piece
            if width(joined) <= columns:
                line = joined
                continue
            found.append(line)
            line = piece
    return [*found, line] if line else found


def pages(texts: tuple[str, ...], columns: int, rows: int) -> list[Page]:
    """The texts one after the other, or all at once where they fit. At least one page; none of the texts begins amid a page
    that it shares only in part."""
    laid = [lines(text, columns) for text in texts]
    together = [line for each in laid for line in each]
    groups = [together] if len(together) <= rows else laid
    found = [group[at : at + rows] for group in groups for at in range(0, len(group), rows)]
    return [_filled(page, columns, rows) for page in found or [[]]]


def _filled(page: list[str], columns: int, rows: int) -> Page:
    padded = [line + " " * (columns - width(line)) for line in page]
    return (*padded, *[" " * columns] * (rows - len(page)))
