"""Shared by all tests: pinned time and randomness, and the place of the independent vectors."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, on every machine: a search for new ones is `make fuzz`, or a profile of one's own.
settings.register_profile("pinned", derandomize=True, deadline=None, database=None)
settings.load_profile("pinned")

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"
NOW = datetime(2026, 11, 24, 9, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def vectors() -> Path:
    if not VECTORS.is_dir():
        pytest.skip("independent vectors are not beside this checkout (../shared/vectors)")
    return VECTORS


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def random_bytes() -> Callable[[int], bytes]:
    return random.Random(20261124).randbytes
