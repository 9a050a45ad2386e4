"""The parsers, each as a function of bytes: it returns, or raises an MdocError; any other exception is a finding.

Parsers behind a signature have two targets: the message as it comes, and its payload freshly signed by somebody trusted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from fuzz import cards, commands
from fuzz.world import ASKED, AUDIENCE, NOW, world
from mdoc import apdu, ble, cbor, cose, crl, identifierlist, inspect, issuerlist, mso, qrpass, statuslist, vical
from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    IACA_PROFILE,
    READER_PROFILE,
    STATUS_SIGNER_PROFILE,
    VICAL_SIGNER_PROFILE,
    broken_rule,
    load_der,
    read,
    remarks,
    verification_key,
)
from mdoc.engagement import DeviceEngagement, from_qr
from mdoc.errors import MdocError
from mdoc.freshness import Freshness
from mdoc.ndef_handover import HandoverRequest, HandoverSelect
from mdoc.negotiated_handover import engage, service_parameters
from mdoc.request import DeviceRequest, RequestedItems
from mdoc.response import DeviceResponse
from mdoc.session import SessionData, SessionEstablishment
from mdoc.type4tag import Pause
from mdoc.verdict import Failure
from mdoc.verify import verify_response
from testbed.authority import DOC_TYPE

PROFILES = (IACA_PROFILE, DOCUMENT_SIGNER_PROFILE, READER_PROFILE, STATUS_SIGNER_PROFILE, VICAL_SIGNER_PROFILE)


@dataclass(frozen=True, slots=True)
class Target:
    run: Callable[[bytes], object]
    seeds: tuple[str, ...]
    """Messages of `fuzz.world` to start from."""
    lines: int = 3000
    """Lines of Python that the shortest input may cost."""
    lines_per_byte: int = 15
    """And each byte more. A bound on growth, with room: it catches what is quadratic, not what is slow."""


def attempt(target: Target, data: bytes) -> str:
    """Run once: "accepted", or the name of the documented error. Every other exception passes through."""
    try:
        target.run(data)
    except MdocError as error:
        return type(error).__name__
    return "accepted"


def _all(*parsers: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Run every one of them; refused (with the last error) when none took the bytes."""

    def run(data: bytes) -> None:
        refused: list[MdocError] = []
        for parse in parsers:
            try:
                parse(data)
            except MdocError as error:
                refused.append(error)
        if len(refused) == len(parsers):
            raise refused[-1]

    return run


def _cose(data: bytes) -> None:
    value = cbor.decode(data)
    key = world().list_key.public_key()
    _all(
        lambda _: cose.verify_sign1(cose.parse_sign1(value), key),
        lambda _: cose.verify_sign1(cose.parse_sign1(value), key, detached=b""),
        lambda _: cose.verify_mac0(cose.parse_mac0(value), bytes(32), b""),
        lambda _: cose.public_key(value),
    )(data)


def _verify(data: bytes) -> None:
    made = world()
    verdict = verify_response(
        data,
        transcript=made.transcript,
        reader_key=made.reader_key,
        requested=made.requested,
        trust=made.trust,
        status=made.status,
        now=NOW,
    )
    if verdict.reason is Failure.MALFORMED:
        return
    if verdict.accepted:
        shown = {name for elements in verdict.elements.values() for name in elements}
        if shown != set(ASKED):
            raise AssertionError("accepted with other elements than were asked")


def _inspect(data: bytes) -> None:
    """What `gwanmun inspect --issuer-only --show-values --json` does with a file."""
    made = world()
    response = inspect.unwrap(data)
    requested = [RequestedItems(DOC_TYPE, {}, unlimited=True)]
    question = inspect.Question(
        response, None, None, requested, made.trust, made.status, Freshness(), NOW, timedelta(0), True, ()
    )
    verdict = verify_response(
        response,
        transcript=None,
        reader_key=None,
        requested=requested,
        trust=made.trust,
        status=made.status,
        now=NOW,
        issuer_only=True,
    )
    json.dumps(inspect.report(question, verdict, show_values=True), ensure_ascii=False).encode()


def _qr_pass(data: bytes) -> None:
    made = world()
    for text in (data, qrpass.PREFIX + data):
        qrpass.verify_pass(text, audience=AUDIENCE, issuers=made.issuers, status=made.status, now=NOW)


def _apdu(data: bytes) -> None:
    applet = apdu.EnvelopeApplet(lambda message: message)

    def feed(raw: bytes) -> None:
        applet.process(apdu.Command.parse(raw))

    _all(feed, feed, apdu.Response.parse, apdu.unwrap, lambda raw: apdu.object_size(raw[:5]))(data)


def _answers(data: bytes) -> list[bytes]:
    """`data` as response APDUs: a length byte before each."""
    found = []
    at = 0
    while at < len(data):
        found.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return found


_OPENING = tuple(
    bytes((len(answer),)) + answer
    for answer in map(bytes.fromhex, ("9000", "9000", "000f207fff7fff0406e1047fff00009000", "9000"))
)


def _tag(data: bytes) -> None:
    """A phone that answers the NFC engagement with whatever it likes; after its last answer every command fails."""
    steps = engage(world().handover_request)
    answers = iter(_answers(b"".join(_OPENING) + data))
    step = next(steps)
    try:
        while True:
            step = steps.send(b"" if isinstance(step, Pause) else next(answers, b"\x6f\x00"))
    except StopIteration:
        return


def _exchange(data: bytes) -> None:
    """A phone that answers ENVELOPE with whatever it likes."""
    steps = apdu.exchange(bytes(600), max_command=255, max_response=256)
    answers = iter(_answers(data))
    next(steps)
    try:
        while True:
            steps.send(next(answers, b"\x6f\x00"))
    except StopIteration:
        return


def _ble(data: bytes) -> None:
    whole = ble.Reassembler(max_message=1024)
    for value in _answers(data):
        whole.feed(value)


def _certificate(data: bytes) -> None:
    certificate = read(data)
    issuer = read(world().authority)
    for profile in PROFILES:
        broken_rule(certificate, profile)
        broken_rule(certificate, profile, issuer=issuer)
        remarks(certificate, profile, issuer)
    _all(lambda _: verification_key(certificate), load_der, lambda _: _issued(data))(data)


def _issued(data: bytes) -> None:
    world().trust.issued(data, DOCUMENT_SIGNER_PROFILE)


def _status(data: bytes) -> None:
    statuslist.parse_token(data, world().trust)


def _identifiers(data: bytes) -> None:
    identifierlist.parse_token(data, world().trust)


def _vical(data: bytes) -> None:
    vical.parse(data, [read(world().provider_root)])


def _issuers(data: bytes) -> None:
    issuerlist.parse(data, world().list_key.public_key())


def _crl(data: bytes) -> None:
    crl.parse(data, [read(world().authority)])


def _request(data: bytes) -> None:
    DeviceRequest.parse(data)


TARGETS: Mapping[str, Target] = {
    "cbor": Target(cbor.decode, ("response", "mso", "request")),
    "cose": Target(_cose, ("issuer_list", "status_list", "vical")),
    "response": Target(DeviceResponse.parse, ("response", "response_mac")),
    "mso": Target(mso.parse, ("mso",)),
    "verify": Target(_verify, ("response", "response_mac")),
    "inspect": Target(_inspect, ("response", "response_hex"), 20_000, 100),
    "request": Target(_request, ("request",)),
    "engagement": Target(DeviceEngagement.parse, ("engagement",)),
    "qr_code": Target(lambda data: DeviceEngagement.parse(from_qr(data)), ("engagement_qr",)),
    "ndef": Target(
        _all(HandoverSelect.parse, HandoverRequest.parse, service_parameters),
        ("handover_select", "handover_request"),
        20_000,
        400,
    ),
    "tag": Target(_tag, ("tag_answers",), 20_000, 400),
    "apdu": Target(_apdu, ("apdu",)),
    "exchange": Target(_exchange, ("exchange",)),
    "ble": Target(_ble, ("ble",)),
    "session": Target(_all(SessionData.parse, SessionEstablishment.parse), ("establishment", "session_data")),
    "qr_pass": Target(_qr_pass, ("qr_pass", "qr_pass_body")),
    "status_list": Target(_status, ("status_list",)),
    "status_list_payload": Target(
        lambda data: _status(world().status_token(data, statuslist.TYPE)), ("status_list_payload",)
    ),
    "identifier_list": Target(_identifiers, ("identifier_list",)),
    "identifier_list_payload": Target(
        lambda data: _identifiers(world().status_token(data, identifierlist.TYPE)), ("identifier_list_payload",)
    ),
    "vical": Target(_vical, ("vical",)),
    "vical_payload": Target(lambda data: _vical(world().vical(data)), ("vical_payload",)),
    "certificate": Target(
        _certificate,
        ("certificate_iaca", "certificate_signer", "certificate_status", "certificate_reader", "certificate_vical"),
        20_000,
    ),
    "crl": Target(_crl, ("crl",)),
    "crl_signed": Target(lambda data: _crl(world().crl(data)), ("crl_to_be_signed",)),
    "issuer_list": Target(_issuers, ("issuer_list",)),
    "issuer_list_payload": Target(lambda data: _issuers(world().issuer_list(data)), ("issuer_list_payload",)),
    "piv_object": Target(cards.piv_object, ("piv_object", "piv_object_gzip")),
    "chuid": Target(cards.piv_chuid, ("chuid",)),
    "piv_exchange": Target(cards.piv_exchange, ("piv_answers",), 20_000),
    "card_certificate": Target(cards.card_certificate, ("card_certificate", "card_certificate_rsa"), 20_000),
    "pkoc": Target(cards.pkoc_answer, ("pkoc",)),
    "key_list": Target(cards.key_list, ("key_list",)),
    "key_list_payload": Target(cards.key_list_payload, ("key_list_payload",)),
    "command": Target(commands.message, ("command_order", "command_challenge")),
    "command_payload": Target(commands.payload, ("command_payload",)),
    "command_answer": Target(commands.answer, ("command_answer", "command_given")),
    "emergency": Target(commands.state, ("emergency",)),
    "emergency_payload": Target(commands.state_payload, ("emergency_payload",)),
    "command_keys": Target(commands.keys, ("command_keys",)),
    "command_keys_payload": Target(commands.keys_payload, ("command_keys_payload",)),
}


def seeds(name: str) -> list[bytes]:
    """Genuine inputs of a target."""
    messages = {**world().messages, **cards.made().messages, **commands.made().messages}
    select = messages["handover_select"]

    def framed(*answers: bytes) -> bytes:
        return b"".join(bytes((len(answer),)) + answer for answer in answers)

    made: dict[str, bytes] = {
        "engagement_qr": b"mdoc:" + _base64url(messages["engagement"]),
        "tag_answers": framed(
            len(select).to_bytes(2) + b"\x90\x00", select[:250] + b"\x90\x00", select[250:] + b"\x90\x00"
        ),
        "response_hex": messages["response"].hex().encode(),
        "apdu": bytes.fromhex("00c30000055303010203" + "00"),
        "exchange": framed(b"\x90\x00", b"\x90\x00", b"\x53\x04ab\x61\x02", b"cd\x90\x00"),
        "ble": framed(b"\x01abc", b"\x00def", b"\x00"),
        "qr_pass_body": messages["qr_pass"][len(qrpass.PREFIX) :],
    }
    return [made.get(kind) or messages[kind] for kind in TARGETS[name].seeds]


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
