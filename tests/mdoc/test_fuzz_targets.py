"""Every fuzz target, a short seeded run: only documented errors, work in proportion; and work that grows with size, no faster."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import ndef
import pytest

from fuzz import mutate, vectors
from fuzz.targets import TARGETS, Target, attempt, seeds
from fuzz.work import WorkExceededError, lines
from mdoc import cbor, limits
from mdoc.cbor import Encoded
from mdoc.certificates import load_der
from mdoc.errors import MalformedError

RUNS = 500


@pytest.mark.parametrize("name", TARGETS)
def test_only_documented_errors_and_bounded_work(name: str) -> None:
    target = TARGETS[name]
    outcomes: set[str] = set()
    for data in mutate.mutations(seeds(name), seed=20261124, count=RUNS):
        allowed = target.lines + target.lines_per_byte * len(data)
        lines(lambda data=data: outcomes.add(attempt(target, data)), at_most=allowed)  # type: ignore[misc]  # lambda default
    assert len(outcomes) > 1 or name in ("verify", "inspect", "qr_pass")  # these never raise


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_taken(name: str) -> None:
    """A seed that is refused at the door would fuzz nothing behind it."""
    assert [attempt(TARGETS[name], seed) for seed in seeds(name)] == ["accepted"] * len(seeds(name))


def test_a_certificate_of_a_version_nobody_defined_is_malformed() -> None:
    """Found by the certificate target: the library has an exception of its own for it."""
    for seed in seeds("certificate"):
        changed = seed.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x29", 1)
        assert changed != seed
        with pytest.raises(MalformedError):
            load_der(changed)


def test_a_name_of_a_type_the_library_cannot_take_is_malformed() -> None:
    """Found by the certificate target: the library raises TypeError for a BIT STRING in a name."""
    for seed in seeds("certificate"):
        changed = seed.replace(b"\x06\x03\x55\x04\x03\x0c", b"\x06\x03\x55\x04\x03\x03")
        assert changed != seed
        with pytest.raises(MalformedError):
            load_der(changed)


def test_the_work_counter_counts_lines_and_stops() -> None:
    def work(rounds: int) -> None:
        for _ in range(rounds):
            pass

    assert lines(lambda: work(200)) - lines(lambda: work(100)) == pytest.approx(200, abs=10)
    with pytest.raises(WorkExceededError):
        lines(lambda: work(1000), at_most=100)


def nested(size: int) -> bytes:
    return b"\x81" * size + b"\x00"


def many_items(size: int) -> bytes:
    return cbor.head(4, size) + b"\x00" * size


def many_texts(size: int) -> bytes:
    return cbor.head(4, size // 2) + b"\x61a" * (size // 2)


def many_keys(size: int) -> bytes:
    return cbor.head(5, size // 5) + b"".join(b"\x63" + b"%03x" % number + b"\xf6" for number in range(size // 5))


def many_numbers(size: int) -> bytes:
    return cbor.head(5, size // 4) + b"".join(
        b"\x19" + (number % 65_536).to_bytes(2) + b"\xf6" for number in range(size // 4)
    )


def colliding(size: int) -> bytes:
    return cbor.head(5, size // 10) + b"".join(
        b"\x1b" + ((2**61 - 1) * (number % 7 + 1)).to_bytes(8) + b"\xf6" for number in range(size // 10)
    )


def layers(size: int) -> bytes:
    return cbor.encode([Encoded.wrap(cbor.encode(["x"] * 20))] * (size // 44))


def one_long_text(size: int) -> bytes:
    return cbor.encode({"documents": "x" * size})


def one_bignum(size: int) -> bytes:
    return b"\xc2" + cbor.encode(b"\xff" * size)


def promises(size: int) -> bytes:
    """Every array promises more than there is."""
    return b"\x9a\x00\x00\x0f\xff" * (size // 5)


def records(size: int) -> bytes:
    return b"".join(ndef.message_encoder([ndef.Record("a/b", "", b"")] * (size // 6)))


def der_sequences(size: int) -> bytes:
    return b"\x30\x83" + size.to_bytes(3) + b"\x30\x80" * (size // 2)


def der_zeros(size: int) -> bytes:
    return b"\x30\x83" + size.to_bytes(3) + b"\x02\x00" * (size // 2)


def frames(size: int) -> bytes:
    return b"\x02\x01a" * (size // 3)


HOSTILE: tuple[Callable[[int], bytes], ...] = (
    nested,
    many_items,
    many_texts,
    many_keys,
    many_numbers,
    colliding,
    layers,
    one_long_text,
    one_bignum,
    promises,
    records,
    der_sequences,
    der_zeros,
    frames,
)


def cost(target: Target, data: bytes) -> int:
    return lines(lambda: attempt(target, data))


@pytest.mark.parametrize("name", TARGETS)
def test_work_grows_no_faster_than_size(name: str) -> None:
    """From 2 kB to 16 kB, of every hostile kind: eight times the bytes, at most ten times the work."""
    target = TARGETS[name]
    for make in HOSTILE:
        small, large = cost(target, make(2048)), cost(target, make(16_384))
        assert large <= 10 * small + 2000, make.__name__


@pytest.mark.parametrize("make", HOSTILE)
def test_at_the_cap_the_response_costs_what_its_items_may(make: Callable[[int], bytes]) -> None:
    """256 kB: no more lines than the item budget allows, whatever the bytes."""
    data = make(limits.MAX_MESSAGE - 64)[: limits.MAX_MESSAGE]
    for name in ("cbor", "response", "verify", "request", "session"):
        assert cost(TARGETS[name], data) < 12 * limits.MAX_ITEMS


@pytest.mark.parametrize("make", HOSTILE)
def test_at_the_cap_memory_is_a_small_multiple_of_the_message(make: Callable[[int], bytes]) -> None:
    data = make(limits.MAX_MESSAGE - 64)[: limits.MAX_MESSAGE]
    for name in ("cbor", "response", "verify", "session"):
        attempt(TARGETS[name], b"")  # whatever is made once is made before
        tracemalloc.start()
        try:
            attempt(TARGETS[name], data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * limits.MAX_MESSAGE


@pytest.mark.skipif(not vectors.FOLDER.is_dir(), reason="shared/vectors is not beside the checkout")
@pytest.mark.parametrize("name", TARGETS)
def test_messages_of_others_end_in_a_documented_way(name: str) -> None:
    for data in vectors.seeds(name):
        lines(lambda data=data: attempt(TARGETS[name], data), at_most=1_000_000)  # type: ignore[misc]  # lambda default
