"""What a phone holds: credentials with their device keys, QR passes, trusted reader roots, and the holder's own usage history.

The history is one file on the phone and the only place where usage is written down (the ID's promise).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cbor
from mdoc.cbor import Encoded
from mdoc.issue import Credential
from protocol.clock import rfc3339
from testbed.authority import IssuedPass, read_private, replace_file, write_private


@dataclass(frozen=True, slots=True)
class Held:
    """One credential and the key it is bound to."""

    credential: Credential
    device_key: ec.EllipticCurvePrivateKey


@dataclass(slots=True)
class Wallet:
    """In memory; `save` and `load` keep it in a directory (keys mode 0600)."""

    held: list[Held] = field(default_factory=list)
    passes: list[IssuedPass] = field(default_factory=list)
    reader_roots: list[x509.Certificate] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    directory: Path | None = None

    def find(self, doc_type: str) -> Held | None:
        return next((held for held in self.held if held.credential.doc_type == doc_type), None)

    def remember(
        self, moment: datetime, *, carrier: str, reader: str | None, shared: Mapping[str, Sequence[str]], outcome: str
    ) -> None:
        """Write one line of the holder's own history."""
        self.history.append(
            {
                "time": rfc3339(moment),
                "carrier": carrier,
                "reader": reader,
                "shared": {space: list(elements) for space, elements in shared.items()},
                "outcome": outcome,
            }
        )
        if self.directory is not None:
            replace_file(
                self.directory / "history.json", json.dumps(self.history, ensure_ascii=False, indent=1).encode()
            )

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        for number, held in enumerate(self.held):
            write_private(directory / f"credential-{number}.key.pem", held.device_key)
            replace_file(directory / f"credential-{number}.cbor", encode_credential(held.credential))
        for number, card in enumerate(self.passes):
            write_private(directory / f"pass-{number}.key.pem", card.key)
            replace_file(directory / f"pass-{number}.cbor", cbor.encode(card.card))
        roots = b"".join(root.public_bytes(Encoding.PEM) for root in self.reader_roots)
        replace_file(directory / "reader-roots.pem", roots)

    @classmethod
    def load(cls, directory: Path) -> Wallet:
        """Raises FileNotFoundError where there is no phone."""
        roots = (directory / "reader-roots.pem").read_bytes()
        wallet = cls(directory=directory)
        wallet.reader_roots = x509.load_pem_x509_certificates(roots) if roots else []
        for path in sorted(directory.glob("credential-*.cbor")):
            wallet.held.append(Held(decode_credential(path.read_bytes()), read_private(path.with_suffix(".key.pem"))))
        for path in sorted(directory.glob("pass-*.cbor")):
            wallet.passes.append(IssuedPass(cbor.decode(path.read_bytes()), read_private(path.with_suffix(".key.pem"))))
        history = directory / "history.json"
        if history.exists():
            wallet.history = json.loads(history.read_text("utf-8"))
        return wallet


def encode_credential(credential: Credential) -> bytes:
    """{"docType", "nameSpaces": {ns: [+ IssuerSignedItemBytes]}, "issuerAuth"}: how an issuer hands a credential over."""
    return cbor.encode(
        {
            "docType": credential.doc_type,
            "nameSpaces": {space: list(items.values()) for space, items in credential.items.items()},
            "issuerAuth": credential.issuer_auth,
        }
    )


def decode_credential(raw: bytes) -> Credential:
    """Raises mdoc.errors.MalformedError for what is not CBOR, KeyError for what is no credential."""
    body = cbor.decode_map(raw)
    items: dict[str, dict[str, Encoded]] = {}
    for space, entries in body["nameSpaces"].items():
        items[space] = {cbor.decode_map(entry.content)["elementIdentifier"]: entry for entry in entries}
    return Credential(body["docType"], items, body["issuerAuth"])
