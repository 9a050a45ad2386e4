"""What a transaction under way would change of a picture in memory: kept when it is committed, forgotten when it is not."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Draft(Generic[K, V]):
    """A mapping of immutable values."""

    def __init__(self, kept: dict[K, V] | None = None) -> None:
        self._kept: dict[K, V] = kept or {}
        self.changed: dict[K, V | None] = {}
        """Since the last `keep` or `forget`; None: taken out."""
        self._grown = 0

    def __len__(self) -> int:
        return len(self._kept) + self._grown

    def get(self, key: K) -> V | None:
        return self.changed[key] if key in self.changed else self._kept.get(key)

    def put(self, key: K, value: V | None) -> None:
        """None takes it out."""
        self._grown += (value is not None) - (self.get(key) is not None)
        self.changed[key] = value

    def kept(self) -> dict[K, V]:
        """As it was before the transaction under way."""
        return self._kept

    def keep(self) -> None:
        for key, value in self.changed.items():
            if value is None:
                self._kept.pop(key, None)
            else:
                self._kept[key] = value
        self.forget()

    def forget(self) -> None:
        self.changed.clear()
        self._grown = 0
