"""Which armed phone is asked: threshold with hysteresis, the strongest, at the adapter that hears it best, one at a time."""

from __future__ import annotations

from gate_agent.proximity import FORGET_S, MAX_PHONES, MIN_HEARD, SPENT_S, Proximity, Threshold

NEAR, FAR = Threshold(-55, -63), -75


def hear(proximity: Proximity, peer: str, rssi: float, *, at: float = 0.0, times: int = 12, adapter: str = "a") -> None:
    for step in range(times):
        proximity.heard(adapter, peer, rssi, at + step / 100)


def test_a_phone_over_the_threshold_is_near_and_one_below_is_not() -> None:
    proximity = Proximity({"a": NEAR})
    hear(proximity, "far", -56)
    assert proximity.nearest("a", 0.2) is None
    hear(proximity, "near", -55)
    assert proximity.nearest("a", 0.2) == "near"


def test_one_strong_reflection_is_not_enough() -> None:
    proximity = Proximity({"a": NEAR})
    hear(proximity, "phone", -40, times=MIN_HEARD - 1)
    assert proximity.nearest("a", 0.1) is None
    hear(proximity, "passer-by", FAR)
    proximity.heard("a", "passer-by", -50, 0.2)
    assert proximity.nearest("a", 0.2) is None


def test_a_near_phone_stays_near_until_it_is_below_the_lower_threshold() -> None:
    proximity = Proximity({"a": NEAR})
    hear(proximity, "phone", -50)
    hear(proximity, "phone", -60, at=0.2)
    assert proximity.nearest("a", 0.4) == "phone"
    hear(proximity, "phone", -70, at=0.4)
    assert proximity.nearest("a", 0.6) is None
    hear(proximity, "phone", -60, at=0.6)
    assert proximity.nearest("a", 0.8) is None  # and then it has to come over the upper one again


def test_the_strongest_is_asked_and_the_choice_does_not_flap() -> None:
    proximity = Proximity({"a": NEAR})
    hear(proximity, "one", -50)
    hear(proximity, "two", -45)
    assert proximity.nearest("a", 0.2) == "two"
    hear(proximity, "one", -42, at=0.2)
    hear(proximity, "two", -46, at=0.2)
    assert proximity.nearest("a", 0.4) == "two"
    hear(proximity, "one", -38, at=0.4)
    assert proximity.nearest("a", 0.6) == "one"


def test_of_two_lanes_the_one_that_hears_a_phone_better_asks_it() -> None:
    proximity = Proximity({"a": NEAR, "b": NEAR})
    hear(proximity, "phone", -50, adapter="a")
    hear(proximity, "phone", -46, adapter="b")
    assert proximity.nearest("a", 0.2) is None
    assert proximity.nearest("b", 0.2) == "phone"


def test_a_phone_heard_equally_well_at_two_lanes_is_asked_by_one() -> None:
    proximity = Proximity({"a": NEAR, "b": NEAR})
    for adapter in ("b", "a"):
        hear(proximity, "phone", -50, adapter=adapter)
    assert [proximity.nearest(each, 0.2) for each in ("a", "b")] == ["phone", None]


def test_a_phone_that_was_asked_is_left_alone_for_a_while() -> None:
    proximity = Proximity({"a": NEAR})
    hear(proximity, "phone", -50)
    proximity.spend("phone", 0.1)
    assert proximity.nearest("a", 0.2) is None
    hear(proximity, "phone", -50, at=SPENT_S + 0.1)
    assert proximity.nearest("a", SPENT_S + 0.2) == "phone"


def test_a_phone_that_is_no_longer_heard_is_gone() -> None:
    proximity = Proximity({"a": NEAR})
    hear(proximity, "phone", -50)
    assert proximity.nearest("a", FORGET_S + 0.2) is None
    proximity.heard("a", "phone", -50, FORGET_S + 0.2)
    assert proximity.nearest("a", FORGET_S + 0.2) is None  # one advertisement is a new beginning


def test_an_unknown_strength_and_an_adapter_without_walk_up_count_for_nothing() -> None:
    proximity = Proximity({"a": NEAR})
    hear(proximity, "phone", 127)
    hear(proximity, "other", -40, adapter="b")
    assert proximity.nearest("a", 0.2) is None


def test_a_crowd_of_made_up_addresses_takes_no_memory_without_bound() -> None:
    proximity = Proximity({"a": NEAR})
    for number in range(10 * MAX_PHONES):
        proximity.heard("a", str(number), -50, 0.0)
    assert len(proximity._phones) == MAX_PHONES
