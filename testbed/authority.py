"""An issuing authority: roots, signers, civil-servant credentials and QR passes, revocation. For the demo, tests and pilots.

State is a directory of PEM keys (mode 0600) and one JSON file; `publish` writes what a gate's trust directory needs
(docs/trust-directory.md). Root and issuer list carry the mark of specimens, which no installed gate takes: anybody can make such
an authority. Everything it issues carries made-up values that occur nowhere else (canaries).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mdoc import crl, issue, issuerlist, qrpass, specimen, statuslist
from mdoc.cbor import Tag
from mdoc.certificates import EKU_MDL_DS, EKU_MDOC_DS
from mdoc.issuerlist import ListedIssuer
from testbed import certificates

DOC_TYPE = "kr.go.civilservant.1"
NAME_SPACE = "kr.go.civilservant.1"
MDL_DOC_TYPE = "org.iso.18013.5.1.mDL"
STATUS_BITS = 1
SPARE = 1024
"""A published status list has room for at least this many credentials still to be issued."""
CREDENTIAL_LIFETIME = timedelta(days=365)
STATUS_LIFETIME = timedelta(days=7)
CRL_LIFETIME = timedelta(days=30)
_SIGNERS = {"document-signer": EKU_MDOC_DS, "licence-signer": EKU_MDL_DS}
"""Two certificates for the one document-signer key: a driving licence is signed under a purpose of its own (table B.3)."""
_CURVES: Mapping[str, ec.EllipticCurve] = {
    curve.name: curve for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
}
_KEYS = ("iaca", "document-signer", "status-signer", "pass", "list")
_MARK = x509.UnrecognizedExtension(x509.ObjectIdentifier(specimen.OID), specimen.VALUE)
Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Person:
    """Made-up attributes of one holder."""

    name: str
    agency: str
    agency_code: str
    department: str
    grade: str
    employee_number: str
    card_type: str
    access_class: str
    portrait: bytes

    def elements(self, issued: datetime, expires: datetime, holder_handle: bytes) -> dict[str, Any]:
        return {
            "name": self.name,
            "agency": self.agency,
            "agency_code": self.agency_code,
            "department": self.department,
            "grade": self.grade,
            "employee_number": self.employee_number,
            "card_type": self.card_type,
            "access_class": self.access_class,
            "portrait": self.portrait,
            "issue_date": full_date(issued.date()),
            "expiry_date": full_date(expires.date()),
            "holder_handle": holder_handle,
        }


def full_date(day: date) -> Tag:
    """full-date (#6.1004 tstr, RFC 8943)."""
    return Tag(1004, day.isoformat())


def canary_person(
    random_bytes: Random, *, agency_code: str, card_type: str, access_class: str, portrait_bytes: int = 2048
) -> Person:
    """A person whose free attributes are unique, so that a leak can be searched for."""

    def unique(prefix: str) -> str:
        return f"{prefix}-{random_bytes(6).hex()}"

    return Person(
        name=unique("홍길동"),
        agency=unique("행정안전부"),
        agency_code=agency_code,
        department=unique("정부청사관리과"),
        grade=unique("행정주사"),
        employee_number=unique("E"),
        card_type=card_type,
        access_class=access_class,
        portrait=b"\xff\xd8\xff\xe0" + random_bytes(portrait_bytes) + b"\xff\xd9",
    )


@dataclass(frozen=True, slots=True)
class IssuedPass:
    """A QR pass and the private key that shows it (never the mdoc device key)."""

    card: list[Any]
    key: ec.EllipticCurvePrivateKey


def write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """PEM, PKCS#8, mode 0600 from the first byte."""
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def read_private(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: an elliptic-curve key is expected")
    return key


def replace_file(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a reader sees the old or the new file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("." + path.name)
    part.write_bytes(content)
    part.replace(path)


def _read_certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _listed(row: dict[str, Any]) -> ListedIssuer:
    """From the authority's state."""
    return ListedIssuer(
        bytes.fromhex(row["kid"]),
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[row["curve"]], bytes.fromhex(row["point"])),
        tuple(row["doc_types"]),
        datetime.fromisoformat(row["not_before"]),
        datetime.fromisoformat(row["not_after"]),
        tuple(row["status_lists"]),
    )


def _signers(
    key: ec.EllipticCurvePublicKey, iaca: x509.Certificate, iaca_key: ec.EllipticCurvePrivateKey, begin: datetime
) -> dict[str, x509.Certificate]:
    """File names and certificates of a document-signer key."""
    return {
        name: certificates.document_signer(key, issuer=iaca, issuer_key=iaca_key, not_before=begin, purpose=purpose)
        for name, purpose in _SIGNERS.items()
    }


class Authority:
    """One issuing authority. Not safe for use by several processes at once."""

    def __init__(self, directory: Path, random_bytes: Random) -> None:
        """Open an authority made by `create`."""
        self.directory, self._random = directory, random_bytes
        self._state: dict[str, Any] = json.loads((directory / "authority.json").read_text("utf-8"))
        self._keys = {name: read_private(directory / f"{name}.key.pem") for name in _KEYS}
        self.iaca = _read_certificate(directory / "iaca.pem")
        self.document_signer = _read_certificate(directory / "document-signer.pem")
        self.licence_signer = _read_certificate(directory / "licence-signer.pem")
        self.status_signer = _read_certificate(directory / "status-signer.pem")

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        name: str,
        now: datetime,
        random_bytes: Random = os.urandom,
        country: str = "KR",
        first_index: int = 0,
    ) -> Authority:
        """Make keys and certificates; `first_index` is the status index of the first credential. Raises FileExistsError where an
        authority already is."""
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / "authority.json").exists():
            raise FileExistsError(f"{directory}: already an issuing authority")
        keys = {key: ec.generate_private_key(ec.SECP256R1()) for key in _KEYS}
        begin = (now - timedelta(days=30)).replace(microsecond=0)
        iaca = certificates.root(
            keys["iaca"],
            f"{name} IACA",
            country=country,
            not_before=begin,
            lifetime=timedelta(days=3650),
            extra=((_MARK, False),),
        )
        signers = _signers(keys["document-signer"].public_key(), iaca, keys["iaca"], begin)
        status = certificates.status_signer(
            keys["status-signer"].public_key(),
            f"{name} status signer",
            issuer=iaca,
            issuer_key=keys["iaca"],
            not_before=begin,
        )
        for key_name, key in keys.items():
            write_private(directory / f"{key_name}.key.pem", key)
        for file_name, certificate in {"iaca": iaca, **signers, "status-signer": status}.items():
            (directory / f"{file_name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (directory / "list-signer.pub.pem").write_bytes(
            keys["list"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        identity = random_bytes(4).hex()
        state = {
            "name": name,
            "kid": identity,
            "uri": f"https://issuer.example/status/{identity}",
            "first_index": first_index,
            "statuses": [],
            "crl_number": 0,
            "revoked_signers": [],
            "listed": [],
        }
        (directory / "authority.json").write_text(json.dumps(state, ensure_ascii=False), "utf-8")
        return cls(directory, random_bytes)

    @property
    def status_uri(self) -> str:
        return str(self._state["uri"])

    @property
    def list_key(self) -> ec.EllipticCurvePublicKey:
        return self._keys["list"].public_key()

    @property
    def signer_key(self) -> ec.EllipticCurvePrivateKey:
        return self._keys["document-signer"]

    def _new_index(self) -> int:
        self._state["statuses"].append(0)
        self._save()
        return int(self._state["first_index"]) + len(self._state["statuses"]) - 1

    def _save(self) -> None:
        replace_file(self.directory / "authority.json", json.dumps(self._state, ensure_ascii=False).encode())

    def issue(
        self,
        device_key: ec.EllipticCurvePublicKey,
        person: Person,
        *,
        now: datetime,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        doc_type: str = DOC_TYPE,
        extra: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> tuple[issue.Credential, int]:
        """A credential for a phone's key, and its status index. Signed now, or at `valid_from` where that is earlier."""
        begin = valid_from or now - timedelta(minutes=1)
        end = valid_until or begin + CREDENTIAL_LIFETIME
        index = self._new_index()
        elements = extra or {NAME_SPACE: person.elements(begin, end, self._random(16))}
        credential = issue.issue(
            doc_type=doc_type,
            elements=elements,
            device_key=device_key,
            signer=self._keys["document-signer"],
            certificate=self.licence_signer if doc_type == MDL_DOC_TYPE else self.document_signer,
            signed=min(now, begin),
            valid_from=begin,
            valid_until=end,
            random_bytes=self._random,
            status=(self.status_uri, index),
        )
        return credential, index

    def issue_pass(
        self, person: Person, *, now: datetime, lifetime: timedelta = timedelta(days=1)
    ) -> tuple[IssuedPass, int]:
        """A QR pass with a key of its own, and its status index."""
        key = ec.generate_private_key(ec.SECP256R1())
        index = self._new_index()
        card = qrpass.build_pass(
            kid=bytes.fromhex(self._state["kid"]),
            issuer_key=self._keys["pass"],
            pass_key=key.public_key(),
            not_before=now - timedelta(minutes=1),
            expires=now + lifetime,
            doc_type=0,
            agency_code=person.agency_code,
            card_type=person.card_type,
            access_class=person.access_class,
            status_list=0,
            status_index=index,
        )
        return IssuedPass(card, key), index

    def revoke(self, index: int) -> None:
        """Raises IndexError for an index never issued."""
        place = index - int(self._state["first_index"])
        if not 0 <= place < len(self._state["statuses"]):
            raise IndexError(f"no credential with status index {index}")
        self._state["statuses"][place] = 1
        self._save()

    def revoke_signer(self, now: datetime) -> None:
        """Put both certificates of the document signer on the revocation list and go on with a new key."""
        for certificate in (self.document_signer, self.licence_signer):
            self._state["revoked_signers"].append(str(certificate.serial_number))
        self._save()
        key = self._keys["document-signer"] = ec.generate_private_key(ec.SECP256R1())
        begin = now.replace(microsecond=0) - timedelta(minutes=1)
        signers = _signers(key.public_key(), self.iaca, self._keys["iaca"], begin)
        write_private(self.directory / "document-signer.key.pem", key)
        for name, certificate in signers.items():
            replace_file(self.directory / f"{name}.pem", certificate.public_bytes(Encoding.PEM))
        self.document_signer, self.licence_signer = signers["document-signer"], signers["licence-signer"]

    def crl(self, now: datetime) -> bytes:
        """The next certificate revocation list, DER."""
        self._state["crl_number"] += 1
        self._save()
        return crl.build(
            self.iaca,
            self._keys["iaca"],
            number=self._state["crl_number"],
            revoked=[int(serial) for serial in self._state["revoked_signers"]],
            this_update=now.replace(microsecond=0),
            lifetime=CRL_LIFETIME,
        )

    def status_token(self, now: datetime) -> bytes:
        # Longer than what is issued: a list need not change for each new credential, nor tell how many there are.
        entries = [0] * int(self._state["first_index"]) + self._state["statuses"]
        padded = entries + [0] * (2 * SPARE - len(entries) % SPARE)
        return statuslist.build_token(
            uri=self.status_uri,
            statuses=padded,
            bits=STATUS_BITS,
            issued_at=now,
            expires=now + STATUS_LIFETIME,
            key=self._keys["status-signer"],
            certificate=self.status_signer,
        )

    def list_issuer(self, issuer: ListedIssuer) -> None:
        """Put another issuer on the list that `publish` signs, in place of an earlier entry of its name."""
        point = issuer.key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        row = {
            "kid": issuer.kid.hex(),
            "curve": issuer.key.curve.name,
            "point": point.hex(),
            "doc_types": list(issuer.doc_types),
            "not_before": issuer.not_before.isoformat(),
            "not_after": issuer.not_after.isoformat(),
            "status_lists": list(issuer.status_lists),
        }
        others = [entry for entry in self._state["listed"] if entry["kid"] != row["kid"]]
        self._state["listed"] = [*others, row]
        self._save()

    def issuer_list(self, now: datetime) -> bytes:
        entry = ListedIssuer(
            kid=bytes.fromhex(self._state["kid"]),
            key=self._keys["pass"].public_key(),
            doc_types=(DOC_TYPE,),
            not_before=(now - timedelta(days=30)).astimezone(UTC),
            not_after=(now + timedelta(days=365)).astimezone(UTC),
            status_lists=(self.status_uri,),
        )
        others = [_listed(row) for row in self._state["listed"]]
        return issuerlist.build([entry, *others], now, self._keys["list"], specimen=True)

    def publish(self, trust: Path, now: datetime) -> None:
        """Write root, revocation lists and issuer list into a gate's trust directory."""
        short = str(self._state["kid"])
        # The status list first: a gate that looks while the others are still being written has what was revoked.
        replace_file(trust / "status" / f"{short}.cwt", self.status_token(now))
        replace_file(trust / "iaca" / f"{short}.pem", self.iaca.public_bytes(Encoding.PEM))
        replace_file(trust / "crl" / f"{short}.crl", self.crl(now))
        replace_file(trust / "issuers.cose", self.issuer_list(now))
