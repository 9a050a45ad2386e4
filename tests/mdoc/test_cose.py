"""COSE: which structures, headers, algorithms, sizes and keys are taken, and that nothing else is."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MalformedError

MESSAGE = b"message"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm, set[int]]] = {
    "P-256": (ec.SECP256R1(), hashes.SHA256(), {-7, -9}),
    "P-384": (ec.SECP384R1(), hashes.SHA384(), {-35, -51, -48}),
    "P-521": (ec.SECP521R1(), hashes.SHA512(), {-36, -52, -49}),
    "brainpoolP256r1": (ec.BrainpoolP256R1(), hashes.SHA256(), {-7, -265, -261}),
    "brainpoolP384r1": (ec.BrainpoolP384R1(), hashes.SHA384(), {-35, -267, -263}),
    "brainpoolP512r1": (ec.BrainpoolP512R1(), hashes.SHA512(), {-36, -268, -264}),
}
ALGORITHMS = {-7, -8, -9, -19, -35, -36, -47, -48, -49, -50, -51, -52, -53, -257, *range(-268, -260), 0, 5, 7}
KEY = ec.generate_private_key(ec.SECP256R1())


def raw_signature(key: ec.EllipticCurvePrivateKey, used: hashes.HashAlgorithm, message: bytes = MESSAGE) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(used)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


@pytest.mark.parametrize("name", CURVES)
def test_an_algorithm_is_taken_on_its_own_curve_only(name: str) -> None:
    curve, used, fitting = CURVES[name]
    key = ec.generate_private_key(curve)
    signature = raw_signature(key, used)
    taken = {number for number in ALGORITHMS if cose.verify_signature(key.public_key(), number, signature, MESSAGE)}
    assert taken == fitting


def test_edwards_algorithms() -> None:
    short, long = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()
    for key, fitting in ((short, {-8, -19, -50}), (long, {-8, -53, -51})):
        signature = key.sign(MESSAGE)
        taken = {number for number in ALGORITHMS if cose.verify_signature(key.public_key(), number, signature, MESSAGE)}
        assert taken == fitting
        assert not cose.verify_signature(key.public_key(), -8, signature[:-1], MESSAGE)
        assert not cose.verify_signature(key.public_key(), -8, signature + b"\0", MESSAGE)
        assert not cose.verify_signature(key.public_key(), -8, b"", MESSAGE)


@pytest.mark.parametrize("algorithm", [-7.0, "ES256", None, True, b"-7", [-7]])
def test_an_algorithm_that_is_no_whole_number_verifies_nothing(algorithm: object) -> None:
    signature = raw_signature(KEY, hashes.SHA256())
    assert not cose.verify_signature(KEY.public_key(), algorithm, signature, MESSAGE)


def test_signature_sizes_are_exact() -> None:
    good = raw_signature(KEY, hashes.SHA256())
    der = KEY.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
    assert cose.verify_signature(KEY.public_key(), -7, good, MESSAGE)
    padded = b"\0" + good[:32] + b"\0" + good[32:]
    for bad in (der, b"", good[:-1], good + b"\0", b"\0" + good, padded, good[:32], good * 2):
        assert not cose.verify_signature(KEY.public_key(), -7, bad, MESSAGE)


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 0), (0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER), (P256_ORDER, P256_ORDER), (2**256 - 1, 2**256 - 1)],
)
def test_r_and_s_out_of_range_verify_nothing(r: int, s: int) -> None:
    assert not cose.verify_signature(KEY.public_key(), -7, r.to_bytes(32) + s.to_bytes(32), MESSAGE)


def test_r_and_s_moved_by_the_order_verify_nothing() -> None:
    good = raw_signature(KEY, hashes.SHA256())
    r, s = int.from_bytes(good[:32]), int.from_bytes(good[32:])
    for moved in ((r + P256_ORDER, s), (r, s + P256_ORDER)):
        if max(moved) < 2**256:
            signature = moved[0].to_bytes(32) + moved[1].to_bytes(32)
            assert not cose.verify_signature(KEY.public_key(), -7, signature, MESSAGE)


def structure(**changes: Any) -> list[Any]:
    parts = {
        "protected": cbor.encode({1: -7}),
        "unprotected": {},
        "payload": b"payload",
        "signature": bytes(64),
    }
    return list({**parts, **changes}.values())


def test_own_tag_is_taken_and_no_other() -> None:
    assert cose.parse_sign1(Tag(18, structure())) == cose.parse_sign1(structure())
    assert cose.parse_mac0(Tag(17, structure())) == cose.parse_mac0(structure())
    for tag in (16, 17, 19, 24, 61, 96, 97, 98):
        with pytest.raises(MalformedError):
            cose.parse_sign1(Tag(tag, structure()))
    for tag in (16, 18, 61, 96, 97, 98):
        with pytest.raises(MalformedError):
            cose.parse_mac0(Tag(tag, structure()))
    with pytest.raises(MalformedError):
        cose.parse_sign1(Tag(18, Tag(18, structure())))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        structure()[:3],
        [*structure(), b""],
        structure(protected={1: -7}),
        structure(protected=cbor.Encoded.wrap(cbor.encode({1: -7}))),
        structure(protected=cbor.encode([1, -7])),
        structure(protected=cbor.encode({1: -7}) + b"\0"),
        structure(protected=bytes.fromhex("a201260126")),
        structure(protected=bytes.fromhex("bf0126ff")),
        structure(protected=cbor.encode({1: -7.0})),
        structure(protected=cbor.encode({1: "ES256"})),
        structure(protected=cbor.encode({1: True})),
        structure(protected=cbor.encode({1: -7, 2: [1]})),
        structure(protected=cbor.encode({1: -7, 2: []})),
        structure(protected=cbor.encode({1: -7, b"x": 1})),
        structure(unprotected={2: [4]}),
        structure(unprotected={b"x": 1}),
        structure(unprotected={1: -7}),
        structure(unprotected=[]),
        structure(unprotected=None),
        structure(payload="payload"),
        structure(payload=cbor.Encoded.wrap(b"\xa0")),
        structure(signature=None),
        structure(signature="x" * 64),
    ],
)
def test_refuses_a_structure(value: object) -> None:
    with pytest.raises(MalformedError):
        cose.parse_sign1(value)


def test_an_empty_protected_header_has_no_algorithm() -> None:
    for protected in (b"", b"\xa0"):
        key_of_unprotected = cose.parse_sign1(structure(protected=protected, unprotected={1: -7}))
        assert key_of_unprotected.algorithm is None
        assert not cose.verify_sign1(key_of_unprotected, KEY.public_key())


def test_a_header_value_of_undefined_is_taken() -> None:
    """Producers put `4: undefined` into the unprotected header."""
    assert cose.parse_sign1(structure(unprotected=cbor.decode(bytes.fromhex("a104f7")))).unprotected == {4: None}


def test_a_protected_header_is_hashed_as_received() -> None:
    protected = bytes.fromhex("b900010126")
    message = cose.signature_structure(protected, b"payload")
    signed = structure(protected=protected, signature=cose.sign(KEY, message))
    assert cose.verify_sign1(cose.parse_sign1(signed), KEY.public_key())
    signed[0] = cbor.encode({1: -7})
    assert not cose.verify_sign1(cose.parse_sign1(signed), KEY.public_key())


def test_an_attached_payload_never_stands_in_for_the_detached_one() -> None:
    other = cose.parse_sign1(cose.build_sign1(KEY, b"another session"))
    assert cose.verify_sign1(other, KEY.public_key())
    assert not cose.verify_sign1(other, KEY.public_key(), detached=b"this session")
    same = cose.parse_sign1(cose.build_sign1(KEY, b"this session"))
    assert cose.verify_sign1(same, KEY.public_key(), detached=b"this session")
    assert not cose.verify_sign1(same, KEY.public_key(), detached=b"")
    none = cose.parse_sign1(cose.build_sign1(KEY, b"", detached=True))
    assert not cose.verify_sign1(none, KEY.public_key())


def test_mac() -> None:
    key = bytes(range(32))
    good = cose.build_mac0(key, MESSAGE)
    assert cose.verify_mac0(cose.parse_mac0(good), key, MESSAGE)
    for changed in (
        [good[0], {}, b"other", good[3]],
        [good[0], {}, None, good[3][:-1]],
        [good[0], {}, None, good[3] + b"\0"],
        [good[0], {}, None, b""],
        [good[0], {}, None, bytes(32)],
        [cbor.encode({1: 4}), {}, None, good[3]],
        [cbor.encode({1: 6}), {}, None, good[3]],
        [cbor.encode({1: -7}), {}, None, good[3]],
        [b"", {1: 5}, None, good[3]],
    ):
        assert not cose.verify_mac0(cose.parse_mac0(changed), key, MESSAGE)
    assert not cose.verify_mac0(cose.parse_mac0(good), bytes(32), MESSAGE)
    without_aad = cose.build_mac0(key, MESSAGE)
    structure_without_aad = b"\x83\x64MAC0" + b"\x43" + good[0] + b"\x47" + MESSAGE
    without_aad[3] = hmac.digest(key, structure_without_aad, "sha256")
    assert not cose.verify_mac0(cose.parse_mac0(without_aad), key, MESSAGE)


@pytest.mark.parametrize("name", CURVES)
def test_a_key_written_is_the_key_read(name: str) -> None:
    public = ec.generate_private_key(CURVES[name][0]).public_key()
    for compressed in (False, True):
        read = cose.public_key(cbor.decode(cbor.encode(cose.cose_key(public, compressed=compressed))))
        assert isinstance(read, ec.EllipticCurvePublicKey)
        assert read.public_numbers() == public.public_numbers()


@pytest.mark.parametrize("name", CURVES)
def test_what_is_signed_on_a_curve_verifies_on_it(name: str) -> None:
    key = ec.generate_private_key(CURVES[name][0])
    signed = cose.parse_sign1(cose.build_sign1(key, MESSAGE))
    assert signed.algorithm == max(CURVES[name][2])
    assert cose.verify_sign1(signed, key.public_key())
    assert not cose.verify_sign1(signed, ec.generate_private_key(CURVES[name][0]).public_key())


def edit(**changes: Callable[[dict[int, Any]], object]) -> list[tuple[str, Callable[[dict[int, Any]], object]]]:
    return list(changes.items())


@pytest.mark.parametrize(
    ("name", "change"),
    edit(
        no_type=lambda key: key.pop(1),
        no_curve=lambda key: key.pop(-1),
        no_x=lambda key: key.pop(-2),
        no_y=lambda key: key.pop(-3),
        type_true=lambda key: key.update({1: True}),
        type_text=lambda key: key.update({1: "EC2"}),
        type_okp=lambda key: key.update({1: 1}),
        type_symmetric=lambda key: key.update({1: 4}),
        curve_float=lambda key: key.update({-1: 1.0}),
        curve_unknown=lambda key: key.update({-1: 99}),
        curve_other=lambda key: key.update({-1: 256}),
        curve_larger=lambda key: key.update({-1: 2}),
        curve_edwards=lambda key: key.update({-1: 6}),
        x_short=lambda key: key.update({-2: key[-2][:-1]}),
        x_long=lambda key: key.update({-2: b"\0" + key[-2]}),
        y_short=lambda key: key.update({-3: key[-3][:-1]}),
        y_long=lambda key: key.update({-3: key[-3] + b"\0"}),
        halves_shifted=lambda key: key.update({-2: key[-2] + key[-3][:1], -3: key[-3][1:]}),
        y_off_curve=lambda key: key.update({-3: bytes(32)}),
        point_zero=lambda key: key.update({-2: bytes(32), -3: bytes(32)}),
        x_beyond_the_field=lambda key: key.update({-2: b"\xff" * 32}),
        y_none=lambda key: key.update({-3: None}),
        y_number=lambda key: key.update({-3: 1}),
        x_without_a_point=lambda key: key.update({-2: bytes(31) + b"\x01", -3: True}),
    ),
)
def test_refuses_a_key(name: str, change: Callable[[dict[int, Any]], object]) -> None:
    key = cose.cose_key(KEY.public_key())
    change(key)
    with pytest.raises(MalformedError):
        cose.public_key(key)


@pytest.mark.parametrize(
    "key", [None, [], "key", {1: 1, -1: 6, -2: bytes(31)}, {1: 1, -1: 7, -2: bytes(56)}, {1: 1, -1: 4, -2: bytes(32)}]
)
def test_refuses_what_is_no_key(key: object) -> None:
    with pytest.raises(MalformedError):
        cose.public_key(key)


def test_ecdh_needs_a_key_with_two_coordinates() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert isinstance(cose.public_key({1: 1, -1: 6, -2: edwards}), ed25519.Ed25519PublicKey)
    with pytest.raises(MalformedError):
        cose.ec_public_key({1: 1, -1: 6, -2: edwards})


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    payload=st.binary(max_size=300),
    headers=st.dictionaries(
        st.integers(3, 40) | st.text(max_size=5), st.integers(-9, 99) | st.binary(max_size=9), max_size=4
    ),
)
def test_what_is_signed_verifies_after_a_round_trip(payload: bytes, headers: dict[Any, Any]) -> None:
    sent = cose.build_sign1(KEY, payload, protected=headers)
    received = cose.parse_sign1(cbor.decode(cbor.encode(sent)))
    assert received.payload == payload
    assert received.protected == {1: -7, **headers}
    assert cose.verify_sign1(received, KEY.public_key())
