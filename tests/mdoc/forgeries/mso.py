"""Mobile security objects that are not what 18013-5 9.1.2.4 and 9.1.2.5 ask, signed well, and dates that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from mdoc.verdict import Failure
from tests.conftest import NOW
from tests.mdoc.forgeries.builder import (
    DEVICE,
    DOC_TYPE,
    OTHER_SPACE,
    SPACE,
    STRANGER,
    Forgery,
    Plan,
    cose_key,
    date,
    expect,
    response,
)
from tests.mdoc.forgeries.values import (
    ALTERED,
    EARLY,
    EXPIRED,
    MALFORMED,
    NOT_A_NUMBER,
    NOT_TEXT,
    SESSION,
    SMALL_ORDER,
    TYPE,
)
from tests.mdoc.forgeries.wire import (
    Hook,
    Raw,
    Tagged,
    again,
    drop,
    in_array,
    indefinite,
    pairs,
    put,
    renamed,
    twice,
    under,
    write,
)
from tests.mdoc.forgeries.x509 import DAY, key


def _mso() -> Iterator[tuple[str, str, Hook, frozenset[Failure]]]:
    """On the MSO's map, which the issuer then signs."""
    for member in ("version", "digestAlgorithm", "valueDigests", "docType", "deviceKeyInfo", "validityInfo"):
        yield f"no {member}", "9.1.2.4", drop(member), MALFORMED
        yield f"{member} nil", "9.1.2.4", put(member, None), MALFORMED
        yield f"{member} in an array", "9.1.2.4", under(member, in_array), MALFORMED
        yield f"{member} twice, nil last", "RFC 8949 5.6", twice(member, None), MALFORMED
        yield f"{member} twice, nil first", "RFC 8949 5.6", twice(member, None, first=True), MALFORMED
        yield f"{member} twice, the same", "RFC 8949 5.6", again(member), MALFORMED
        yield f"{member} with a longer key head", "RFC 8949 5.6", _key_again(member), MALFORMED
        yield f"{member} in capitals", "9.1.2.4", renamed(member, member.upper()), MALFORMED
    for version in (
        "2.0",
        "0.9",
        "1",
        "1.",
        "1.00",
        "1.0 ",
        "v1.0",
        "10.0",
        "1.x",
        "１.0",
        "1.\u0660",
        "",
        1,
        1.0,
        None,
    ):
        value = Raw(b"\xfb\x3f\xf0" + bytes(6)) if isinstance(version, float) else version
        yield f"version {version!r}", "9.1.2.4", put("version", value), MALFORMED
    for name in (
        "MD5",
        "SHA-1",
        "SHA-224",
        "SHA-256/128",
        "SHA256",
        "sha-256",
        "SHA-256 ",
        "SHA3-256",
        "none",
        "",
        256,
        -16,
    ):
        yield f"digestAlgorithm {name!r}", "9.1.2.5", put("digestAlgorithm", name), MALFORMED
    yield "SHA-512 over SHA-256's digests", "9.1.2.5", put("digestAlgorithm", "SHA-512"), MALFORMED
    yield "docType of another kind", "9.3.1 step 4", put("docType", "other"), TYPE
    yield "docType the beginning of the right one", "9.3.1 step 4", put("docType", DOC_TYPE[:-1]), TYPE
    yield "docType in other case", "9.3.1 step 4", put("docType", DOC_TYPE.upper()), TYPE
    yield "docType with a NUL", "9.3.1 step 4", put("docType", DOC_TYPE + "\0"), TYPE
    yield (
        "docType with another letter that looks the same",
        "9.3.1 step 4",
        put("docType", DOC_TYPE.replace("o", "о")),
        TYPE,
    )
    for name, value in NOT_TEXT.items():
        yield f"docType as text: {name}", "9.1.2.4", put("docType", value), MALFORMED
    for name, info in _key_infos():
        yield f"deviceKeyInfo: {name}", "9.1.2.4", put("deviceKeyInfo", info), MALFORMED
    for name, private in (("a stranger's", STRANGER), ("on another curve", key(3, "secp384r1"))):
        info = {"deviceKey": cose_key(private)}
        yield f"deviceKey {name}", "9.1.3", put("deviceKeyInfo", info), SESSION
    for name, hook in _digests():
        yield f"valueDigests: {name}", "9.1.2.5", under("valueDigests", hook), MALFORMED
    for name, hook in _other_digests():
        yield f"valueDigests: {name}", "9.3.1 step 3", under("valueDigests", hook), ALTERED
    for name, hook, expected in _validity():
        yield f"validityInfo: {name}", "9.3.1 step 5", under("validityInfo", hook), expected
    yield "a number as a key twice", "RFC 8949 5.6", lambda body: pairs([*body.items(), (9, 1), (9, 1)]), MALFORMED
    yield "a float as a key", "RFC 8949 5.6", lambda body: pairs([*body.items(), (Raw(b"\xf9\x3c\x00"), 1)]), MALFORMED
    yield "a map as a key", "RFC 8949 5.6", lambda body: pairs([*body.items(), (Raw(b"\xa0"), 1)]), MALFORMED
    yield "of indefinite length", "limits", indefinite, MALFORMED
    yield "its values alone", "9.1.2.4", lambda body: list(body.values()), MALFORMED
    yield "tagged once more", "9.1.2.4", lambda body: Tagged(24, write(body)), MALFORMED


def _key_again(member: str) -> Hook:
    long = Raw(b"\x78" + bytes((len(member),)) + member.encode())
    return lambda body: pairs([*body.items(), (long, body[member])])


def _key_infos() -> Iterator[tuple[str, Any]]:
    genuine = cose_key(DEVICE)
    x, y = genuine[-2], genuine[-3]
    prime = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1

    def info(changed: Any) -> dict[str, Any]:
        return {"deviceKey": changed}

    yield "empty", {}
    yield "the key alone", genuine
    yield "the key as bytes", info(write(genuine))
    yield "the key tagged 24", info(Tagged(24, write(genuine)))
    yield "the key twice", pairs([("deviceKey", genuine), ("deviceKey", cose_key(STRANGER))])
    yield "a member of the key twice", info(pairs([*genuine.items(), (-2, x)]))
    yield "x twice, a stranger's last", info(pairs([*genuine.items(), (-2, cose_key(STRANGER)[-2])]))
    yield "x twice, once with a longer head", info(pairs([*genuine.items(), (Raw(b"\x38\x01"), x)]))
    yield "with its private part", info({**genuine, -4: bytes(32)})
    yield "a key of no kind", info(drop(1)(genuine))
    yield "a symmetric key", info({1: 4, -1: bytes(32)})
    yield "an RSA key", info({1: 3, -1: bytes(256), -2: b"\1\0\1"})
    yield "kty as text", info({**genuine, 1: "EC2"})
    yield "kty OKP over P-256", info({**genuine, 1: 1})
    yield "kty true", info({**genuine, 1: True})
    yield "no curve", info(drop(-1)(genuine))
    yield "curve as text", info({**genuine, -1: "P-256"})
    yield "curve zero", info({**genuine, -1: 0})
    yield "secp256k1", info(cose_key(key(30, "secp256k1")))
    yield "X25519", info({1: 1, -1: 4, -2: x})
    yield "Ed25519 of 31 bytes", info({1: 1, -1: 6, -2: x[:31]})
    yield "Ed448 of 32 bytes", info({1: 1, -1: 7, -2: x})
    yield "P-384 with P-256's point", info({**genuine, -1: 2})
    yield "no x", info(drop(-2)(genuine))
    yield "no y", info(drop(-3)(genuine))
    yield "x as text", info({**genuine, -2: x.hex()})
    yield "x short", info({**genuine, -2: x[1:]})
    yield "x long", info({**genuine, -2: b"\0" + x})
    yield "y long", info({**genuine, -3: b"\0" + y})
    yield "x and y turned round", info({**genuine, -2: y, -3: x})
    yield "off the curve", info({**genuine, -3: y[:-1] + bytes((y[-1] ^ 1,))})
    yield "infinity as zeros", info({**genuine, -2: bytes(32), -3: bytes(32)})
    yield "infinity as nothing", info({**genuine, -2: b"", -3: b""})
    yield "x beyond the field", info({**genuine, -2: (prime + 1).to_bytes(32, "big")})
    yield "on the twist", info({**genuine, -2: _not_an_abscissa(), -3: False})
    for alg in (-35, -8, -47, -257, 5, 1, "ES256", True, [-7], Raw(b"\xf9\xc7\x00")):
        yield f"restricted to algorithm {alg!r}", info({**genuine, 3: alg})
    for point in SMALL_ORDER:
        yield f"Ed25519 of small order {point.hex()[:8]}{point.hex()[-2:]}", info({1: 1, -1: 6, -2: point})
    for number in (0, 1, (1 << 448) - (1 << 224) - 2):
        yield f"Ed448 of small order {number % 1000}", info({1: 1, -1: 7, -2: number.to_bytes(57, "little")})
    yield "y as a number", info({**genuine, -3: 1})
    yield "y nil", info({**genuine, -3: None})


def _not_an_abscissa() -> bytes:
    """An x for which x^3 - 3x + b has no root in P-256's field."""
    prime = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    x = next(x for x in range(1, 100) if pow(x**3 - 3 * x + b, (prime - 1) // 2, prime) != 1)
    return x.to_bytes(32, "big")


def _digests() -> Iterator[tuple[str, Hook]]:
    """On {namespace: {digestID: digest}}, malformed."""
    yield "an array", lambda _: []
    yield "a namespace twice", lambda found: pairs([*found.items(), (SPACE, found[SPACE])])
    yield "a namespace that is bytes", lambda found: pairs([*found.items(), (b"x", {})])
    yield "a namespace that is a number", lambda found: pairs([*found.items(), (1, {})])
    yield "digests as an array", lambda found: {**found, SPACE: list(found[SPACE].values())}
    yield "digests nil", put(SPACE, None)
    for name, value in NOT_A_NUMBER.items():
        yield f"digestID {name}", _under_space(_first_under(value))
    yield "digestID beyond 60 bits", _under_space(lambda d: pairs([*d.items(), (1 << 63, d[0])]))
    yield "a digestID twice", _under_space(lambda d: pairs([*d.items(), (0, d[0])]))
    yield (
        "a digestID twice, once with a longer head",
        _under_space(lambda d: pairs([*d.items(), (Raw(b"\x18\x00"), bytes(32))])),
    )
    yield "a digest short", _under_space(lambda d: {**d, 0: d[0][:31]})
    yield "a digest cut to 16 bytes", _under_space(lambda d: {**d, 0: d[0][:16]})
    yield "a digest long", _under_space(lambda d: {**d, 0: d[0] + b"\0"})
    yield "a digest empty", _under_space(lambda d: {**d, 0: b""})
    yield "a digest as text", _under_space(lambda d: {**d, 0: d[0].hex()})
    yield "a digest nil", _under_space(lambda d: {**d, 0: None})
    yield "a digest in an array", _under_space(lambda d: {**d, 0: [d[0]]})
    yield "a digest tagged", _under_space(lambda d: {**d, 0: Tagged(24, d[0])})
    yield "600 digests", _under_space(lambda d: {**d, **dict.fromkeys(range(10, 610), d[0])})


def _first_under(number: Any) -> Hook:
    """The first digest once more, under another number."""
    return lambda digests: pairs([*digests.items(), (number, digests[0])])


def _under_space(hook: Hook) -> Hook:
    return under(SPACE, hook)


def _other_digests() -> Iterator[tuple[str, Hook]]:
    """Well-formed, and not those of the items."""
    yield "none", lambda _: {}
    yield "a namespace missing", drop(SPACE)
    yield "the other namespace missing", drop(OTHER_SPACE)
    yield "a namespace empty", put(SPACE, {})
    yield "one missing", _under_space(drop(0))
    yield "one of zeros", _under_space(put(0, bytes(32)))
    yield "two turned round", _under_space(lambda d: {**d, 0: d[1], 1: d[0]})
    yield "all under other numbers", _under_space(lambda d: {number + 7: digest for number, digest in d.items()})
    yield "namespaces turned round", lambda found: {SPACE: found[OTHER_SPACE], OTHER_SPACE: found[SPACE]}
    yield "in a namespace with a similar name", lambda found: {**drop(SPACE)(found), SPACE + " ": found[SPACE]}
    yield "in one namespace for both", lambda found: {SPACE: {**found[OTHER_SPACE], **found[SPACE]}}


def _validity() -> Iterator[tuple[str, Hook, frozenset[Failure]]]:
    """On {signed, validFrom, validUntil}."""
    for member in ("signed", "validFrom", "validUntil"):
        yield f"no {member}", drop(member), MALFORMED
        yield f"{member} twice", twice(member, date(NOW)), MALFORMED
        for name, value in (
            ("nil", None),
            ("untagged", "2026-11-24T00:00:00Z"),
            ("a number", 1795500000),
            ("tagged 1", Tagged(1, 1795500000)),
            ("tagged 1004", Tagged(1004, "2026-11-24")),
            ("tagged 0 twice", Tagged(0, Tagged(0, "2026-11-24T00:00:00Z"))),
            ("bytes", Tagged(0, b"2026-11-24T00:00:00Z")),
            ("a date alone", Tagged(0, "2026-11-24")),
            ("without zone", Tagged(0, "2026-11-24T00:00:00")),
            ("in words", Tagged(0, "tomorrow")),
            ("of no day", Tagged(0, "2026-02-30T00:00:00Z")),
            ("of no hour", Tagged(0, "2026-11-24T25:00:00Z")),
            ("of an offset too large", Tagged(0, "2026-11-24T00:00:00+24:00")),
            ("year 0", Tagged(0, "0000-01-01T00:00:00Z")),
            ("before all time", Tagged(0, "0001-01-01T00:00:00+23:00")),
            ("after all time", Tagged(0, "9999-12-31T23:59:59-23:00")),
            ("of five digits", Tagged(0, "12026-11-24T00:00:00Z")),
            ("with a space", Tagged(0, "2026-11-24 00:00:00Z")),
            ("with a line after it", Tagged(0, "2026-11-24T00:00:00Z\n")),
            ("in other digits", Tagged(0, "٢٠٢٦-11-24T00:00:00Z")),
        ):
            yield f"{member} {name}", put(member, value), MALFORMED
    second = timedelta(seconds=1)
    yield "over", put("validUntil", date(NOW - DAY)), EXPIRED
    yield "over for a second", put("validUntil", date(NOW - second)), EXPIRED
    yield "over, by the offset", put("validUntil", Tagged(0, "2026-11-24T17:59:59+09:00")), EXPIRED
    yield "to come", put("validFrom", date(NOW + DAY)), EARLY
    yield "to come in a second", put("validFrom", date(NOW + second)), EARLY
    yield "to come, by the offset", put("validFrom", Tagged(0, "2026-11-24T08:00:00-01:01")), EARLY
    yield "signed in the future", put("signed", date(NOW + DAY)), EARLY
    yield "signed in a second", put("signed", date(NOW + second)), EARLY
    reversed_dates = {"validFrom": date(NOW + DAY), "validUntil": date(NOW - DAY)}
    yield "reversed", lambda found: {**found, **reversed_dates}, MALFORMED
    yield "signed after it ends", lambda found: {**found, "signed": date(NOW + 99 * DAY)}, MALFORMED
    old = expect(Failure.BAD_CERTIFICATE)
    yield "signed before the signer was valid", put("signed", date(NOW - 90 * DAY)), old
    yield "signed before the root was valid", put("signed", date(NOW - 900 * DAY)), old
    yield "expectedUpdate a number", put("expectedUpdate", 5), MALFORMED
    yield "expectedUpdate of no day", put("expectedUpdate", Tagged(0, "2026-02-30T00:00:00Z")), MALFORMED
    yield "an array", lambda found: list(found.values()), MALFORMED
    yield "of indefinite length", indefinite, MALFORMED


def _payloads() -> Iterator[tuple[str, Plan]]:
    def untagged(payload: bytes) -> bytes:
        return payload[2:]

    yield "without its tag", Plan(payload=untagged)
    yield "the map itself", Plan(payload=lambda payload: payload[5:])
    yield "another tag", Plan(payload=lambda payload: b"\xd8\x19" + payload[2:])
    yield "the tag twice", Plan(payload=lambda payload: b"\xd8\x18" + payload)
    yield "tagged and in a string again", Plan(payload=lambda payload: write(Tagged(24, payload)))
    yield "a byte after the tagged string", Plan(payload=lambda payload: payload + b"\0")
    yield "two of them", Plan(payload=lambda payload: payload * 2)
    yield "a byte after the map", Plan(mso_bytes=lambda plain: plain + b"\0")
    yield "two maps", Plan(mso_bytes=lambda plain: plain * 2)
    yield "cut short", Plan(mso_bytes=lambda plain: plain[:-1])
    yield "empty", Plan(mso_bytes=lambda _: b"")
    yield "an array", Plan(payload=lambda payload: b"\x81" + payload)


def forgeries() -> Iterator[Forgery]:
    for name, clause, hook, expected in _mso():
        yield Forgery(name=f"MSO: {name}", clause=clause, raw=response(Plan(mso=hook)), expected=expected)
    for name, plan in _payloads():
        yield Forgery(name=f"MSO: {name}", clause="9.1.2.4", raw=response(plan), expected=MALFORMED)
