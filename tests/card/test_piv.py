from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from card import chuid, limits, piv, piv_certificate, tlv
from card.apdu import Sizes, select
from card.keys import card_key
from card.piv import Challenge, NoCredentialError
from mdoc.errors import MalformedError, MdocError
from testbed.card.keys import KeyKind
from testbed.card.piv import CERTIFICATE, CHUID, VirtualPivCard
from tests.card.conftest import NONCE, Cards, drive, ours, tap

KINDS = (KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048, KeyKind.RSA_3072)


def test_the_commands_are_those_of_the_standard(cards: Cards) -> None:
    """Byte for byte as SP 800-73-5 part 2 and other readers have them."""
    assert select(piv.AID).hex() == "00a404000ba00000030800001000010000"
    sent: list[bytes] = []
    card = VirtualPivCard(cards.usual)
    assert card.transmit(select(piv.AID))[-2:] == b"\x90\x00"

    def noted(command: bytes) -> bytes:
        sent.append(command)
        return card.transmit(command)

    answer = drive(piv.read(NONCE, Sizes()), noted)
    assert answer.challenge is not None
    assert sent[0].hex() == "00cb3fff055c035fc10100"
    assert bytes.fromhex("00cb3fff055c035fc10200") in sent
    assert sent[-1] == bytes.fromhex("0087119e267c2482008120") + answer.challenge.digest + b"\x00"


def test_an_rsa_block_goes_out_in_a_chain(cards: Cards) -> None:
    sent: list[bytes] = []
    card = VirtualPivCard(cards.credentials[KeyKind.RSA_2048])
    card.transmit(select(piv.AID))

    def noted(command: bytes) -> bytes:
        sent.append(command)
        return card.transmit(command)

    drive(piv.read(NONCE, Sizes()), noted)
    first, second = (each for each in sent if each[1] == piv.INS_GENERAL_AUTHENTICATE)
    assert first[:15].hex() == "1087079eff7c820106820081820100"
    assert (len(first), second[:5].hex(), len(second)) == (260, "0087079e0b", 17)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_card_of_every_kind_of_key_proves_its_key(cards: Cards, kind: KeyKind, compressed: bool) -> None:
    credential = cards.credentials[kind]
    answer = tap(VirtualPivCard(credential, compressed=compressed))
    assert answer.certificate == ours(credential.certificate)
    assert answer.challenge is not None
    assert answer.signature is not None
    assert cards.verdict(answer).accepted


@pytest.mark.parametrize("size", [40, 100, 255])
def test_a_reader_with_a_small_buffer_reads_the_same(cards: Cards, size: int) -> None:
    assert cards.verdict(tap(VirtualPivCard(cards.usual), sizes=Sizes(size, size))).accepted


@pytest.mark.parametrize("kind", KINDS)
def test_another_nonce_is_another_challenge(cards: Cards, kind: KeyKind) -> None:
    key = card_key(ours(cards.credentials[kind].certificate).public_key_info)
    assert Challenge.to(key, NONCE).block != Challenge.to(key, bytes(32)).block
    assert len(Challenge.to(key, NONCE).block) == (
        key.key_size // 8 if isinstance(key, rsa.RSAPublicKey) else {256: 32, 384: 48}[key.key_size]
    )


def test_the_length_that_the_card_asks_for_is_asked_once(cards: Cards) -> None:
    card = VirtualPivCard(cards.usual)
    card.transmit(select(piv.AID))
    asked = [0]

    def corrected(command: bytes) -> bytes:
        if command[1] == piv.INS_GENERAL_AUTHENTICATE and command[-1] != 0x60:
            asked[0] += 1
            return b"\x6c\x60"
        return card.transmit(command)

    assert cards.verdict(drive(piv.read(NONCE, Sizes()), corrected)).accepted
    assert asked == [1]


def test_a_card_that_asks_for_another_length_for_ever_is_given_up() -> None:
    asked = [0]

    def never(_command: bytes) -> bytes:
        asked[0] += 1
        return b"\x6c\x10"

    with pytest.raises(MalformedError):
        drive(piv.read(NONCE, Sizes()), never)
    assert asked[0] <= 4


@pytest.mark.parametrize("piece", [b"", b"\x53", bytes(256)], ids=["no data", "a byte", "256 bytes"])
def test_a_card_that_always_has_more_is_given_up(piece: bytes) -> None:
    asked = [0]

    def endless(_command: bytes) -> bytes:
        asked[0] += 1
        return piece + b"\x61\x00"

    with pytest.raises(MalformedError, match="GET RESPONSE"):
        drive(piv.read(NONCE, Sizes()), endless)
    assert asked[0] <= limits.MAX_ROUNDS + 1


def test_an_answer_longer_than_its_limit_is_refused_though_it_ends() -> None:
    left = [20]

    def long(_command: bytes) -> bytes:
        left[0] -= 1
        return bytes(256) + (b"\x61\x00" if left[0] else b"\x90\x00")

    with pytest.raises(MalformedError):
        drive(piv.read(NONCE, Sizes()), long)


@pytest.mark.parametrize("held", [None, b"", b"\x53\x00"], ids=["absent", "empty", "an empty object"])
def test_a_card_without_a_card_authentication_certificate_has_no_credential(cards: Cards, held: bytes | None) -> None:
    card = VirtualPivCard(cards.usual)
    del card.objects[CERTIFICATE]
    if held is not None:
        card.objects[CERTIFICATE] = held
    with pytest.raises(NoCredentialError):
        tap(card)


def test_a_card_without_chuid_is_malformed(cards: Cards) -> None:
    card = VirtualPivCard(cards.usual)
    del card.objects[CHUID]
    with pytest.raises(MalformedError):
        tap(card)


def test_a_card_that_refuses_to_sign_has_no_signature(cards: Cards) -> None:
    card = VirtualPivCard(cards.usual)
    card.sign = None
    assert tap(card).signature is None


@pytest.mark.parametrize(
    "answer", [b"", b"\x7c\x00", b"\x7c\x02\x81\x00", b"\x7c\x82\xff\xff\x82\x00", b"\x82\x01\x00"]
)
def test_an_answer_to_the_challenge_that_is_no_signature_is_malformed(cards: Cards, answer: bytes) -> None:
    card = VirtualPivCard(cards.usual)
    card.transmit(select(piv.AID))

    def instead(command: bytes) -> bytes:
        return answer + b"\x90\x00" if command[1] == piv.INS_GENERAL_AUTHENTICATE else card.transmit(command)

    with pytest.raises(MalformedError):
        drive(piv.read(NONCE, Sizes()), instead)


def _object(*parts: tuple[int, bytes]) -> bytes:
    return tlv.encode(0x53, b"".join(tlv.encode(tag, value) for tag, value in parts))


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda der: _object((0x70, der), (0x71, b"\0"), (0xFE, b""))[:-40],
    "no certificate": lambda der: _object((0x71, b"\0"), (0xFE, b"")),
    "no information": lambda der: _object((0x70, der), (0xFE, b"")),
    "information of another kind": lambda der: _object((0x70, der), (0x71, b"\x04"), (0xFE, b"")),
    "two certificates": lambda der: _object((0x70, der), (0x70, der), (0x71, b"\0"), (0xFE, b"")),
    "an object of its own": lambda der: _object((0x70, der), (0x71, b"\0"), (0x99, b"x"), (0xFE, b"")),
    "bytes left over": lambda der: _object((0x70, der), (0x71, b"\0"), (0xFE, b"")) + b"\0",
    "a certificate cut off": lambda der: _object((0x70, der[:-1]), (0x71, b"\0"), (0xFE, b"")),
    "said to be compressed": lambda der: _object((0x70, der), (0x71, b"\x01"), (0xFE, b"")),
    "a compression bomb": lambda der: _object((0x70, gzip.compress(bytes(3_000_000))), (0x71, b"\x01"), (0xFE, b"")),
    "compression cut off": lambda der: _object((0x70, gzip.compress(der)[:-9]), (0x71, b"\x01"), (0xFE, b"")),
    "two compressed members": lambda der: _object((0x70, gzip.compress(der) * 2), (0x71, b"\x01"), (0xFE, b"")),
    "too long": lambda der: _object((0x70, der), (0x71, b"\0"), (0x72, bytes(limits.MAX_OBJECT)), (0xFE, b"")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_certificate_object_is_malformed(cards: Cards, name: str) -> None:
    card = VirtualPivCard(cards.usual)
    card.objects[CERTIFICATE] = HOSTILE[name](cards.usual.certificate.public_bytes(Encoding.DER))
    with pytest.raises(MalformedError):
        tap(card)


def test_a_bomb_is_inflated_no_further_than_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = _object((0x70, gzip.compress(bytes(3_000_000), 9)), (0x71, b"\x01"), (0xFE, b""))
    assert len(bomb) < limits.MAX_OBJECT
    asked: list[int] = []
    make = zlib.decompressobj

    class Watched:
        def __init__(self, wbits: int) -> None:
            self._engine = make(wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            asked.append(most)
            plain: bytes = self._engine.decompress(data, most)
            return plain

        def __getattr__(self, name: str) -> object:
            return getattr(self._engine, name)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(MalformedError, match="another length"):
        piv_certificate.parse(bomb)
    assert asked == [4097]


@pytest.mark.parametrize("compressed", [False, True])
def test_an_object_that_was_built_is_read(cards: Cards, compressed: bool) -> None:
    der = cards.usual.certificate.public_bytes(Encoding.DER)
    assert piv_certificate.parse(piv_certificate.build(der, compressed=compressed)).der == der


GUID, FASC_N = bytes(range(16)), bytes(range(25))


def test_a_chuid_is_read_and_counts_to_the_end_of_its_day() -> None:
    found = chuid.parse(chuid.build(FASC_N, GUID, "20301231"))
    assert (found.fasc_n, found.guid, found.expires.isoformat()) == (FASC_N, GUID, "2031-01-01T00:00:00+00:00")


@pytest.mark.parametrize(
    "raw",
    [
        chuid.build(FASC_N[:-1], GUID, "20301231"),
        chuid.build(FASC_N, GUID[:-1], "20301231"),
        chuid.build(FASC_N, GUID, "20301331"),
        chuid.build(FASC_N, GUID, "99991231"),
        chuid.build(FASC_N, GUID, "2030123"),
        chuid.build(FASC_N, GUID, "2030-2-1"),
        chuid.build(FASC_N, GUID, "20301231")[:-1],
        chuid.build(FASC_N, GUID, "20301231", bytes(limits.MAX_OBJECT)),
        tlv.encode(0x53, b"\x30\x00\x34\x00"),
        tlv.encode(0x54, b""),
    ],
)
def test_a_chuid_that_breaks_its_format_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        chuid.parse(raw)


def test_nothing_that_names_a_card_is_shown_by_repr(cards: Cards) -> None:
    answer = tap(VirtualPivCard(cards.usual))
    verdict = cards.verdict(answer)
    shown = "".join(map(repr, (answer, answer.chuid, answer.challenge, verdict.card, verdict.checks)))
    for canary in cards.usual.canaries.values():
        assert repr(canary)[2:-1] not in shown
        assert canary.hex() not in shown


@given(st.binary(max_size=400))
def test_any_bytes_are_a_data_object_or_malformed(raw: bytes) -> None:
    for parse in (piv_certificate.parse, chuid.parse):
        with contextlib.suppress(MalformedError):
            parse(raw)
        with contextlib.suppress(MalformedError):
            parse(tlv.encode(0x53, raw))


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=300), max_size=80))
def test_a_card_may_answer_anything(cards: Cards, answers: list[bytes]) -> None:
    left = iter(answers)
    with contextlib.suppress(MdocError):
        drive(piv.read(NONCE, Sizes()), lambda _: next(left, b"\x6f\x00"))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 300), st.integers(1, 255)), max_size=4))
def test_a_card_may_answer_its_own_bytes_changed(cards: Cards, changes: list[tuple[int, int, int]]) -> None:
    card = VirtualPivCard(cards.usual)
    card.transmit(select(piv.AID))
    count = [0]

    def changed(command: bytes) -> bytes:
        answer = bytearray(card.transmit(command))
        for number, at, bits in changes:
            if number == count[0]:
                answer[at % len(answer)] ^= bits
        count[0] += 1
        return bytes(answer)

    with contextlib.suppress(MdocError):
        cards.verdict(drive(piv.read(NONCE, Sizes()), changed))
