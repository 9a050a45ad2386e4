"""Debian's package sources as this machine's own apt settings name them, as one-line entries: `deb URI SUITE COMPONENT...`.

Reads /etc/apt/sources.list and sources.list.d, both formats of sources.list(5). Only entries whose suite is the release asked
for, or one of its -updates, -security and -backports, are printed: other repositories need keys a fresh root does not have.
Usage: apt_mirror.py RELEASE [APT-DIRECTORY]. Exit 2 when no entry for RELEASE itself is found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

POCKETS = ("", "-updates", "-security", "-backports")


@dataclass(frozen=True, slots=True)
class Source:
    """One repository: where, which suite, which components."""

    uri: str
    suite: str
    components: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(("deb", self.uri, self.suite, *self.components))


def one_line(text: str) -> Iterator[Source]:
    """Entries of a `.list` file: `deb [options] uri suite component...`, comments after `#`."""
    for raw in text.splitlines():
        line = re.sub(r"\[.*?\]", "", raw.partition("#")[0])
        match line.split():
            case ["deb", uri, suite, *components] if components:
                yield Source(uri, suite, tuple(components))
            case _:
                pass


def deb822(text: str) -> Iterator[Source]:
    """Entries of a `.sources` file: stanzas of `Field: value`, continued on lines that begin with a space."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        unfolded = re.sub(r"\n[ \t]+", " ", "\n".join(lines))
        pairs = (line.partition(":") for line in unfolded.splitlines())
        fields = {name.strip().lower(): value.split() for name, _, value in pairs}
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[0].lower() in {"no", "false", "0"}:
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield Source(uri, suite, tuple(fields.get("components", ())))


def sources(apt: Path, release: str) -> list[Source]:
    """Every distinct entry of `release` under the apt directory, the release itself first."""
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found: dict[Source, None] = {}
    for file in files:
        if not file.is_file() or file.suffix not in {".list", ".sources"}:
            continue
        read = deb822 if file.suffix == ".sources" else one_line
        for source in read(file.read_text(encoding="utf-8", errors="replace")):
            if source.suite in {release + pocket for pocket in POCKETS} and "main" in source.components:
                found[source] = None
    return sorted(found, key=lambda source: source.suite != release)


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print("usage: apt_mirror.py RELEASE [APT-DIRECTORY]", file=sys.stderr)
        return 2
    release = arguments[0]
    apt = Path(arguments[1] if len(arguments) == 2 else "/etc/apt")
    found = sources(apt, release)
    if not found or found[0].suite != release:
        print(f"{apt}: {release}의 apt 저장소가 없습니다 / no apt source for {release}", file=sys.stderr)
        return 2
    print(*found, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
