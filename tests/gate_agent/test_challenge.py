"""Eight digits on the sign: changed every half minute, the one before still good, nothing older."""

from __future__ import annotations

from gate_agent.challenge import CHANGE_S, DIGITS, Challenges
from mdoc.qrpass import MIN_NONCE
from tests.gate_agent.fakes import FakeClock


def test_a_challenge_changes_and_the_one_before_stays_good() -> None:
    clock, drawn = FakeClock(), iter(range(1, 100))
    challenges = Challenges(lambda count: next(drawn).to_bytes(count, "big"), clock)
    first = challenges.current()
    assert first == "00000001"
    assert len(first) == DIGITS >= MIN_NONCE
    assert challenges.current() == first
    clock.elapsed += CHANGE_S
    second = challenges.current()
    assert second != first
    assert challenges.good() == [first.encode(), second.encode()]
    clock.elapsed += CHANGE_S
    third = challenges.current()
    assert challenges.good() == [second.encode(), third.encode()]
