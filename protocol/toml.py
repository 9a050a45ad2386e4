"""A TOML table that must be read whole: every key asked for, of the right type, and no other key left over.

A mistake is one `ConfigError` that names the file, the key and what is expected, in Korean and English (docs/configuration.md).
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 1024 * 1024
"""Bytes of a configuration file; the fullest foreseen (64 lanes) takes about 40 kB."""
CREDENTIAL = "credential:"
"""Prefix of a file that systemd hands over (LoadCredential=), looked up in $CREDENTIALS_DIRECTORY."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What should stand at a key."""

    ko: str
    en: str


class ConfigError(Exception):
    """A configuration mistake; the program prints it and exits with 2."""

    def __init__(self, file: Path, key: str, expected: Expected) -> None:
        super().__init__(f"{file}: {key}: {expected.en}")
        self.file, self.key, self.expected = file, key, expected

    def text(self) -> str:
        """Two lines for a person, Korean first."""
        key = f" {self.key}:" if self.key else ""
        return f"{self.file}:{key} {self.expected.ko}\n{self.file}:{key} {self.expected.en}"


def read(path: Path) -> Mapping[str, Any]:
    """Parse a TOML file. Raises ConfigError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(
                path, "", Expected("파일이 너무 큽니다(최대 1 MiB)", "the file is too large (at most 1 MiB)")
            )
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or "unreadable"
        raise ConfigError(path, "", Expected(f"파일을 읽을 수 없습니다({why})", f"cannot be read ({why})")) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        why = str(error) or "nested too deep"
        raise ConfigError(path, "", Expected(f"TOML 문법 오류: {why}", f"TOML syntax: {why}")) from error


class Table:
    """One table of the document."""

    def __init__(self, file: Path, value: object, place: str, environ: Mapping[str, str] = os.environ) -> None:
        self.file, self.place = file, place
        self._environ = environ
        self._asked: set[str] = set()
        if not isinstance(value, dict):
            raise ConfigError(file, place, Expected("표([…])가 있어야 합니다", "a table ([NAME]) is expected"))
        self._value: Mapping[str, Any] = value

    def key(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def error(self, name: str, ko: str, en: str) -> ConfigError:
        return ConfigError(self.file, self.key(name), Expected(ko, en))

    def has(self, name: str) -> bool:
        return name in self._value

    def is_whole(self, name: str) -> bool:
        value = self._value.get(name)
        return isinstance(value, int) and not isinstance(value, bool)

    def _raw(self, name: str) -> Any:
        self._asked.add(name)
        return self._value.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._raw(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.error(name, "비어 있지 않은 문자열이 있어야 합니다", "a non-empty string is expected")
        return value

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.has(name) else None

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self._raw(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in choices:
            listed = ", ".join(choices)
            raise self.error(name, f"다음 중 하나여야 합니다: {listed}", f"one of these is expected: {listed}")
        return value

    def list_of_choices(self, name: str, choices: Sequence[str], default: Sequence[str]) -> list[str]:
        """A list of one or more of `choices`, each once, in the order given."""
        value = self._raw(name)
        if value is None:
            return list(default)
        if (
            not isinstance(value, list)
            or not value
            or any(each not in choices for each in value)
            or len({*value}) != len(value)
        ):
            listed = ", ".join(choices)
            raise self.error(
                name,
                f"다음 중에서 하나 이상, 한 번씩이어야 합니다: {listed}",
                f"a list of these, each at most once, is expected: {listed}",
            )
        return [str(each) for each in value]

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self._raw(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(
                name, f"{low}에서 {high} 사이의 정수여야 합니다", f"a whole number from {low} to {high} is expected"
            )
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._raw(name) if self.has(name) else default
        if not isinstance(value, bool):
            raise self.error(name, "true나 false가 있어야 합니다", "true or false is expected")
        return value

    def seconds(self, name: str, low: float, high: float, default: float) -> float:
        value = self._raw(name)
        if value is None:
            return default
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or math.isnan(value)
            or not low <= value <= high
        ):
            raise self.error(
                name, f"{low:g}초에서 {high:g}초 사이여야 합니다", f"seconds from {low:g} to {high:g} are expected"
            )
        return float(value)

    def fractions(self, name: str, count: int) -> list[float]:
        """A list of `count` numbers from 0 to 1."""
        value = self._raw(name)
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(
                isinstance(each, int | float) and not isinstance(each, bool) and 0 <= each <= 1 for each in value
            )
        ):
            raise self.error(
                name,
                f"0에서 1 사이의 수 {count}개가 있어야 합니다",
                f"a list of {count} numbers from 0 to 1 is expected",
            )
        return [float(each) for each in value]

    def path(self, name: str) -> Path:
        """A path; a relative one is taken from the configuration file's own directory."""
        value = self.text(name)
        if value.startswith(CREDENTIAL):
            return self._credential(name, value.removeprefix(CREDENTIAL))
        return (self.file.parent / value).resolve()

    def _credential(self, name: str, credential: str) -> Path:
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise self.error(
                name,
                "systemd가 넘겨준 인증 자료가 없습니다($CREDENTIALS_DIRECTORY 없음)",
                "credential: is used, but there is no $CREDENTIALS_DIRECTORY (set LoadCredential= in the unit)",
            )
        if not credential or credential in {".", ".."} or "/" in credential:
            raise self.error(
                name, "credential: 뒤에는 이름만 올 수 있습니다", "a plain name is expected after credential:"
            )
        return Path(directory) / credential

    def file_path(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_file():
            raise self.error(name, f"파일이 없습니다: {path}", f"an existing file is expected; there is no {path}")
        return path

    def table(self, name: str) -> Table:
        return Table(self.file, self._raw(name), self.key(name), self._environ)

    def optional_table(self, name: str) -> Table:
        value = self._raw(name)
        return Table(self.file, {} if value is None else value, self.key(name), self._environ)

    def tables(self, name: str) -> dict[str, Table]:
        """A table of tables, such as [device.camera.NAME]; may be absent."""
        outer = self.optional_table(name)
        return {
            entry: Table(self.file, value, outer.key(entry), self._environ) for entry, value in outer._value.items()
        }

    def list_of_tables(self, name: str) -> list[Table]:
        """An array of tables, such as [[lane]]; at least one."""
        value = self._raw(name)
        if not isinstance(value, list) or not value:
            raise self.error(name, f"[[{name}]]가 하나 이상 있어야 합니다", f"one or more [[{name}]] are expected")
        return [Table(self.file, entry, f"{self.key(name)}[{at}]", self._environ) for at, entry in enumerate(value)]

    def strings(self, name: str, default: Mapping[str, str]) -> Mapping[str, str]:
        """A table of text = text."""
        value = self._raw(name)
        if value is None:
            return default
        if (
            not isinstance(value, dict)
            or not value
            or not all(isinstance(each, str) and each for each in value.values())
        ):
            raise self.error(name, "이름 = 문자열 표가 있어야 합니다", "a table of name = string is expected")
        return value

    def done(self) -> None:
        for name in self._value:
            if name not in self._asked:
                known = ", ".join(sorted(self._asked))
                raise self.error(
                    name, f"모르는 항목입니다. 쓸 수 있는 항목: {known}", f"unknown key; known here: {known}"
                )
