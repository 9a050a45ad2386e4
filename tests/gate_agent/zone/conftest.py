"""A network of gates that is closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gate_agent.zone.network import Network


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Network]]:
    """Gates by name and settings of the zone, joined and agreed."""
    made: list[Network] = []

    def network(*names: str, settled: bool = True, **settings: object) -> Network:
        found = Network(tmp_path, names or ("g1", "g2"), **settings)
        made.append(found)
        if settled:
            found.settle()
        return found

    yield network
    for each in made:
        each.close()
