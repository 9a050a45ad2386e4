"""Births and wills: a late will puts nobody offline, a boot counter that went back is a copied disk."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import store as store_module
from controller.batch import Batch
from controller.presence import Verdict, counter, judge
from controller.store import Store
from protocol.status import Online

Feed = Callable[..., list[tuple[int, str]]]


@pytest.fixture
def feed(store: Store, now: datetime) -> Feed:
    """Births (`+boot`) and wills (`-boot`) in one batch each; gives the alarms."""

    def give(*said: str, store: Store = store) -> list[tuple[int, str]]:
        onlines = [("gate-1", Online(each[0] == "+", each[1:])) for each in said]
        done = store.commit(Batch(heard=frozenset({"gate-1"}), onlines=onlines), now)
        return [(alarm.seq, alarm.what) for alarm in done.alarms]

    return give


def standing(store: Store) -> tuple[str | None, bool | None]:
    [row] = store.gates()
    return row.boot, row.online


def test_a_will_counts_for_its_own_boot_only(store: Store, feed: Feed) -> None:
    feed("+7-aa")
    feed("-6-bb")
    assert standing(store) == ("7-aa", True)
    feed("-7-aa")
    assert standing(store) == ("7-aa", False)


def test_a_birth_and_a_late_will_in_one_batch_leave_the_birth(store: Store, feed: Feed) -> None:
    feed("+6-bb")
    feed("+7-aa", "-6-bb")
    assert standing(store) == ("7-aa", True)


def test_a_newer_birth_counts_without_an_alarm(store: Store, feed: Feed) -> None:
    assert feed("+9-aa") == []
    assert feed("+10-bb") == []
    assert standing(store) == ("10-bb", True)


def test_a_boot_that_is_delivered_again_after_a_newer_one_changes_nothing(store: Store, feed: Feed) -> None:
    feed("+6-bb", "+7-aa")
    assert feed("+6-bb") == []
    assert standing(store) == ("7-aa", True)


@pytest.mark.parametrize("boot", ["3-cc", "7-cc"])
def test_a_new_boot_with_a_number_that_was_used_is_a_rewind(store: Store, feed: Feed, boot: str) -> None:
    feed("+7-aa")
    assert feed(f"+{boot}") == [(counter(boot), "rewind")]
    assert standing(store) == (boot, True)
    assert feed(f"+{boot}") == []


def test_the_order_of_boots_outlives_a_restart(open_store: Callable[[], Store], feed: Feed) -> None:
    feed("+6-bb", "+7-aa", store=open_store())
    again = open_store()
    assert feed("+6-bb", store=again) == []
    assert standing(again) == ("7-aa", True)
    assert feed("+5-dd", store=again) == [(5, "rewind")]


@pytest.mark.parametrize("boot", ["9f3c", "0-9f3c", "x-1", "-1-9f"])
def test_boots_without_a_number_have_no_order(store: Store, feed: Feed, boot: str) -> None:
    feed("+7-aa")
    assert feed(f"+{boot}") == []
    assert standing(store) == (boot, True)


def test_remembered_boots_are_bounded(store: Store, feed: Feed) -> None:
    for number in range(1, store_module.MAX_BOOTS + 20):
        feed(f"+{number}-aa")
    count = store._connection.execute("SELECT count(*) FROM boots").fetchone()[0]
    assert count == store_module.MAX_BOOTS


BOOTS = st.builds("{}-{:x}".format, st.integers(0, 5), st.integers(0, 3)) | st.sampled_from(["aa", "bb"])


@given(said=st.lists(st.builds(Online, st.booleans(), BOOTS), max_size=12))
def test_no_will_of_another_boot_ever_counts(said: list[Online]) -> None:
    known: str | None = None
    boots: list[str] = []
    for online in said:
        verdict = judge(online, known, boots)
        if not online.online and known is not None and online.boot != known:
            assert verdict is Verdict.LATE
        if verdict is not Verdict.LATE:
            known = online.boot
            boots.append(known)
