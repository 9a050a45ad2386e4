"""A provider of VICALs (18013-5 Annex C): signs a list of issuing authorities for a site that trusts several.

State is a directory: root and signer with their keys (mode 0600), and the number of the last list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import vical
from testbed import certificates
from testbed.authority import read_private, replace_file, write_private

LIFETIME = timedelta(days=7)


class Provider:
    """One provider. Not safe for use by several processes at once."""

    def __init__(self, directory: Path) -> None:
        """Open a provider made by `create`."""
        self.directory = directory
        self._state: dict[str, Any] = json.loads((directory / "provider.json").read_text("utf-8"))
        self._key = read_private(directory / "signer.key.pem")
        self.root = x509.load_pem_x509_certificate((directory / "root.pem").read_bytes())
        self.signer = x509.load_pem_x509_certificate((directory / "signer.pem").read_bytes())

    @classmethod
    def create(cls, directory: Path, *, name: str, now: datetime, country: str = "KR") -> Provider:
        """Make keys and certificates. Raises FileExistsError where a provider already is."""
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / "provider.json").exists():
            raise FileExistsError(f"{directory}: already a provider")
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        begin = now.replace(microsecond=0) - timedelta(minutes=1)
        root = certificates.root(
            root_key, f"{name} VICAL root", country=country, not_before=begin, lifetime=timedelta(days=3650)
        )
        signer = certificates.vical_signer(
            key.public_key(), f"{name} VICAL signer", issuer=root, issuer_key=root_key, not_before=begin
        )
        write_private(directory / "root.key.pem", root_key)
        write_private(directory / "signer.key.pem", key)
        for file_name, certificate in (("root", root), ("signer", signer)):
            (directory / f"{file_name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (directory / "provider.json").write_text(json.dumps({"name": name, "issued": 0}, ensure_ascii=False), "utf-8")
        return cls(directory)

    def vical(self, authorities: Sequence[tuple[x509.Certificate, Sequence[str]]], now: datetime) -> bytes:
        """The next list: (root, document types) of each authority. Raises ValueError for one that cannot be listed."""
        number = self._state["issued"] + 1
        signed = vical.build(
            provider=self._state["name"],
            authorities=authorities,
            date=now,
            lifetime=LIFETIME,
            issue_id=number,
            key=self._key,
            chain=[self.signer],
        )
        self._state["issued"] = number
        replace_file(self.directory / "provider.json", json.dumps(self._state, ensure_ascii=False).encode())
        return signed

    def publish(
        self, trust: Path, authorities: Sequence[tuple[x509.Certificate, Sequence[str]]], now: datetime
    ) -> None:
        """Write list and root into a gate's trust directory."""
        name = self.root.fingerprint(hashes.SHA256()).hex()[:8]
        replace_file(trust / "vical-roots" / f"{name}.pem", self.root.public_bytes(Encoding.PEM))
        replace_file(trust / "vical" / f"{name}.cbor", self.vical(authorities, now))
