"""ISO/IEC 18013-5:2021 Annex D reproduces: keys, session messages, signatures, digests, device MAC, reader authentication."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, mso, response, session
from mdoc.cbor import Encoded
from mdoc.certificates import Anchor, TrustAnchors, load_der
from mdoc.engagement import DeviceEngagement
from mdoc.errors import SessionError
from mdoc.holder import HolderSession
from mdoc.request import DeviceRequest, RequestedItems, reader_authentication
from mdoc.session import SessionData, SessionEncryption, SessionEstablishment
from mdoc.statuslist import StatusLists
from mdoc.transcript import NfcHandover, SessionTranscript
from mdoc.verdict import Outcome, Verdict
from mdoc.verify import verify_response

MDL = "org.iso.18013.5.1.mDL"
SPACE = "org.iso.18013.5.1"
ELEMENTS = ("family_name", "issue_date", "expiry_date", "document_number", "portrait", "driving_privileges")
AT = datetime(2021, 1, 1, tzinfo=UTC)


class AnnexD:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def data(self, name: str) -> bytes:
        return bytes.fromhex((self._folder / f"{name}.hex").read_text().strip())

    def private(self, name: str) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(self.data(f"{name}_d"), "big"), ec.SECP256R1())

    def transcript(self) -> SessionTranscript:
        outer = cbor.decode(self.data("session_transcript_bytes"))
        return SessionTranscript(outer.content)

    def trust(self) -> TrustAnchors:
        return TrustAnchors([Anchor.from_certificate(load_der(self.data("iaca_cert")))])

    def verify(self, raw: bytes, at: datetime = AT, trust: TrustAnchors | None = None) -> Verdict:
        return verify_response(
            raw,
            transcript=self.transcript(),
            reader_key=self.private("ephemeral_reader_key"),
            requested=RequestedItems(MDL, {SPACE: ELEMENTS}),
            trust=trust if trust is not None else self.trust(),
            status=StatusLists(),
            now=at,
        )


@pytest.fixture
def annex(vectors: Path) -> AnnexD:
    return AnnexD(vectors / "annexd")


def test_shared_secret_and_session_keys_reproduce(annex: AnnexD) -> None:
    reader, device = annex.private("ephemeral_reader_key"), annex.private("ephemeral_device_key")
    secret = session.shared_secret(reader, device.public_key())
    assert secret == annex.data("shared_secret_zab")
    salt = annex.transcript().salt
    assert session.derive(secret, salt, b"SKReader") == annex.data("sk_reader")
    assert session.derive(secret, salt, b"SKDevice") == annex.data("sk_device")


def test_transcript_is_built_from_its_parts_byte_for_byte(annex: AnnexD) -> None:
    engagement, reader_key, _ = cbor.decode(annex.transcript().raw)
    handover = NfcHandover(annex.data("nfc_handover_select"), annex.data("nfc_handover_request"))
    built = SessionTranscript.build(engagement.content, reader_key, handover)
    assert built.tagged == annex.data("session_transcript_bytes")


def test_engagement_is_read(annex: AnnexD) -> None:
    engagement = DeviceEngagement.parse(annex.data("device_engagement"))
    assert engagement.key.public_numbers() == annex.private("ephemeral_device_key").public_key().public_numbers()
    assert engagement.key_bytes.raw == annex.data("e_device_key_bytes")
    assert engagement.ble is not None
    assert engagement.ble.central_client
    assert not engagement.ble.peripheral_server


def test_session_establishment_decrypts_to_the_device_request(annex: AnnexD) -> None:
    opening = SessionEstablishment.parse(annex.data("session_establishment"))
    phone = SessionEncryption(
        annex.private("ephemeral_device_key"), opening.reader_key, annex.transcript(), reader=False
    )
    assert phone.open(opening.data) == annex.data("device_request")


def test_session_data_decrypts_to_the_device_response_and_only_once(annex: AnnexD) -> None:
    device = annex.private("ephemeral_device_key").public_key()
    reader = SessionEncryption(annex.private("ephemeral_reader_key"), device, annex.transcript(), reader=True)
    data = SessionData.parse(annex.data("session_data")).data
    assert data is not None
    assert reader.open(data) == annex.data("device_response")
    with pytest.raises(SessionError):
        reader.open(data)  # the counter has moved on


def test_termination_is_read_and_built(annex: AnnexD) -> None:
    assert SessionData.parse(annex.data("session_termination")) == SessionData(None, 20)
    assert session.build_data(status=session.Status.SESSION_TERMINATION) == annex.data("session_termination")


def test_issuer_signature_structure_and_signature(annex: AnnexD) -> None:
    sign1 = cose.parse_sign1(cbor.decode(annex.data("issuer_auth")))
    assert sign1.payload is not None
    structure = cose.signature_structure(sign1.protected_raw, sign1.payload)
    assert structure == annex.data("issuer_auth_sig_structure")
    key = x509.load_der_x509_certificate(annex.data("ds_cert")).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert cose.verify_sign1(sign1, key)


def test_device_mac_and_its_structures(annex: AnnexD) -> None:
    document = response.DeviceResponse.parse(annex.data("device_response")).documents[0]
    transcript = annex.transcript()
    expected = response.device_authentication(transcript, MDL, document.device_name_spaces_bytes)
    assert expected == annex.data("device_authentication_bytes")
    assert document.device_mac is not None
    assert cose.mac_structure(document.device_mac.protected_raw, expected) == annex.data("device_auth_mac_structure")
    assert document.issuer_auth.payload is not None
    device_key = mso.parse(document.issuer_auth.payload).device_key
    assert isinstance(device_key, ec.EllipticCurvePublicKey)
    key = session.emac_key(annex.private("ephemeral_reader_key"), device_key, transcript.salt)
    assert key == annex.data("emac_key")
    # The phone derives the same key from its own side.
    other = annex.private("ephemeral_reader_key").public_key()
    assert session.emac_key(annex.private("static_device_key"), other, transcript.salt) == key
    assert cose.verify_mac0(document.device_mac, key, expected)


def test_reader_authentication(annex: AnnexD) -> None:
    asked = DeviceRequest.parse(annex.data("device_request")).doc_requests[0]
    assert asked.items_bytes.raw == Encoded.wrap(asked.items_bytes.content).raw
    assert asked.items_bytes.content == annex.data("items_request")
    structure = reader_authentication(annex.transcript(), asked.items_bytes)
    assert structure == annex.data("reader_authentication_bytes")
    assert asked.reader_auth is not None
    assert cose.signature_structure(asked.reader_auth.protected_raw, structure) == annex.data(
        "reader_auth_sig_structure"
    )
    root = load_der(annex.data("reader_root_cert"))
    engagement, _, _ = cbor.decode(annex.transcript().raw)
    phone = HolderSession(
        engagement.content,
        annex.private("ephemeral_device_key"),
        NfcHandover(annex.data("nfc_handover_select"), annex.data("nfc_handover_request")),
    )
    request = phone.receive(annex.data("session_establishment"))
    assert request is not None
    assert phone.who_asks(request.doc_requests[0], [root], AT).reader is not None
    assert phone.who_asks(request.doc_requests[0], [], AT).reader is None
    assert phone.who_asks(request.doc_requests[0], [root], AT + timedelta(days=2000)).reader is None


def test_whole_response_is_accepted_at_the_annex_time(annex: AnnexD) -> None:
    verdict = annex.verify(annex.data("device_response"))
    assert verdict.reason is None, verdict.checks
    assert verdict.elements[SPACE]["family_name"] == "Doe"
    assert {check.name for check in verdict.checks if check.outcome is Outcome.SKIPPED} == {
        "signer_revocation",
        "status",
    }


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (datetime(2021, 10, 1, 13, 30, 3, tzinfo=UTC), "expired"),
        (datetime(2020, 10, 1, 13, 30, 1, tzinfo=UTC), "not_yet_valid"),
        (datetime(2031, 1, 1, tzinfo=UTC), "bad_certificate"),
    ],
)
def test_dates_of_the_annex(annex: AnnexD, at: datetime, reason: str) -> None:
    # The DS certificate ends in the same second or day as the MSO, so its own failure may come first.
    verdict = annex.verify(annex.data("device_response"), at)
    failed = [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]
    assert verdict.reason is not None
    assert ("validity" in failed) if reason != "bad_certificate" else ("certificate_dates" in failed)


def test_without_the_root_the_issuer_is_unknown_and_all_else_still_holds(annex: AnnexD) -> None:
    verdict = annex.verify(annex.data("device_response"), trust=TrustAnchors([]))
    assert verdict.reason == "unknown_issuer"
    assert [check.name for check in verdict.checks if check.outcome is Outcome.FAILED] == ["issuer_chain"]
