from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.histogram import GROWTH, LAST, LEAST_MS, bucket_of, percentile, upper_ms


@given(st.floats(0, 1e6, allow_nan=False))
def test_a_duration_lies_in_its_bucket(ms: float) -> None:
    bucket = bucket_of(ms)
    assert 0 <= bucket <= LAST
    if bucket < LAST:
        assert ms <= upper_ms(bucket)
    if bucket > 0:
        assert ms > upper_ms(bucket - 1)


@pytest.mark.parametrize("bucket", range(LAST + 1))
def test_an_upper_edge_belongs_to_the_bucket_below_it(bucket: int) -> None:
    assert bucket_of(upper_ms(bucket)) == bucket


def test_the_last_bucket_reaches_a_hundred_seconds_and_the_one_before_does_not() -> None:
    assert upper_ms(LAST - 1) < 100_000 <= upper_ms(LAST)


@pytest.mark.parametrize("odd", [math.nan, -1.0, 0.0, -math.inf])
def test_what_is_no_duration_counts_as_the_shortest(odd: float) -> None:
    assert bucket_of(odd) == 0


def test_what_never_ends_counts_as_the_longest() -> None:
    assert bucket_of(math.inf) == LAST


@given(st.lists(st.floats(LEAST_MS, 100_000), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_at_most_one_bucket_above_the_true_one(values: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for each in values:
        counts[bucket_of(each)] = counts.get(bucket_of(each), 0) + 1
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    found = percentile(counts, share)
    assert found is not None
    assert true <= found <= true * GROWTH * (1 + 1e-9) or true <= LEAST_MS


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({3: 0}, 0.5) is None
