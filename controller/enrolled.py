"""The gates that belong to this building: a directory with one MQTT client certificate a gate, `<gate>.pem`.

Whoever holds the certificate's key may connect; whoever stands in this directory has rights at the broker (controller.acl) and
signs checkpoints that count. A revoked certificate moves to `revoked/` and its key never comes back. All of it is public data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller import files
from protocol import topics

MAX_CERTIFICATE = 16_384
"""Bytes of a PEM file; a P-384 certificate with a few extensions has about 1,200."""
MAX_GATES = 1024
"""Two and a half times the largest complex foreseen (400 lanes); the access list stays under 2 MiB with the longest names."""
MAX_REVOKED = 16_384
RESERVED = frozenset({topics.ALL, "controller"})
"""`all` stands in the gate's place in a topic for every gate; `controller` is the controller's own common name."""
CURVES = ("secp256r1", "secp384r1")
SUFFIX = ".pem"
REVOKED = "revoked"


class Refusal(StrEnum):
    """Why a certificate or a gate is not taken; the first that holds."""

    TOO_LARGE = "too_large"
    NOT_A_CERTIFICATE = "not_a_certificate"
    BAD_NAME = "bad_name"
    RESERVED_NAME = "reserved_name"
    WRONG_FILE = "wrong_file"
    BAD_KEY = "bad_key"
    BAD_PURPOSE = "bad_purpose"
    REVOKED_KEY = "revoked_key"
    OTHER_KEY = "other_key"
    TOO_MANY = "too_many"
    NOT_ENROLLED = "not_enrolled"
    UNREADABLE = "unreadable"


class EnrolError(Exception):
    """A certificate that is not taken, or a gate that is not there; `detail` is a name, never content of the file."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal}: {detail}" if detail else str(refusal))
        self.refusal, self.detail = refusal, detail


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One gate's certificate."""

    gate: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePublicKey


def read_certificate(pem: bytes) -> Enrolment:
    """Check one certificate (PEM, exactly one): common name a gate's id, EC P-256 or P-384, for TLS clients. Raises EnrolError.

    Issuer and dates are the broker's to check, against its authority, at each connection.
    """
    if len(pem) > MAX_CERTIFICATE:
        raise EnrolError(Refusal.TOO_LARGE)
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        (certificate,) = certificates
        names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        key = certificate.public_key()
        purposes = _purposes(certificate)
    except Exception as error:
        # The library's parser raises several unrelated types for bad DER; whatever it is, it is no certificate for us.
        raise EnrolError(Refusal.NOT_A_CERTIFICATE) from error
    if len(names) != 1 or not isinstance(names[0], str) or not topics.ID.fullmatch(names[0]):
        raise EnrolError(Refusal.BAD_NAME)
    gate = names[0]
    if gate in RESERVED:
        raise EnrolError(Refusal.RESERVED_NAME, gate)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise EnrolError(Refusal.BAD_KEY, gate)
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise EnrolError(Refusal.BAD_PURPOSE, gate)
    return Enrolment(gate, certificate, key)


def _purposes(certificate: x509.Certificate) -> x509.ExtendedKeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None


State = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size, modification time (ns) of each certificate: what `changed` compares."""


class Enrolled:
    """The directory, and what was read of it last. `public_key` never touches the disk and may be called from any thread."""

    def __init__(self, directory: Path) -> None:
        """The directory may be absent: then no gate is enrolled."""
        self.directory = directory
        self._state: State | None = None
        self._gates: Mapping[str, Enrolment] = MappingProxyType({})
        self._unusable: Mapping[str, Refusal] = MappingProxyType({})

    def changed(self) -> bool:
        """Read again if a file came, went or was replaced since the last reading; says whether. Raises OSError."""
        state = self._look()
        if state == self._state:
            return False
        gates: dict[str, Enrolment] = {}
        unusable: dict[str, Refusal] = {}
        for name, *_ in state:
            try:
                found = self._read(name)
                gates[found.gate] = found
            except EnrolError as error:
                unusable[name] = error.refusal
        self._gates, self._unusable, self._state = MappingProxyType(gates), MappingProxyType(unusable), state
        return True

    def gates(self) -> Mapping[str, x509.Certificate]:
        """Every enrolled gate with its certificate, by name, as last read."""
        return {gate: each.certificate for gate, each in sorted(self._gates.items())}

    def unusable(self) -> Mapping[str, Refusal]:
        """Files of the directory that enrol nobody, with the reason, as last read."""
        return self._unusable

    def public_key(self, gate: str) -> ec.EllipticCurvePublicKey | None:
        """The key that the gate's checkpoints are signed with; None for a gate that is not enrolled."""
        found = self._gates.get(gate)
        return None if found is None else found.key

    def since(self, gate: str) -> datetime:
        """When the certificate in force was put there. Raises EnrolError."""
        try:
            return datetime.fromtimestamp(self._path(gate).stat().st_mtime, UTC)
        except OSError as error:
            raise EnrolError(Refusal.NOT_ENROLLED, gate) from error

    def add(self, pem: bytes) -> str:
        """Enrol the gate that the certificate names, or renew its certificate for the same key. Gives the gate.

        A gate with another key is revoked first, and a revoked key is never taken again. Raises EnrolError, OSError.
        """
        new = read_certificate(pem)
        self.changed()
        old = self._gates.get(new.gate)
        if old is not None and _public(old.key) != _public(new.key):
            raise EnrolError(Refusal.OTHER_KEY, new.gate)
        if _public(new.key) in self._revoked_keys():
            raise EnrolError(Refusal.REVOKED_KEY, new.gate)
        if old is None and len(self._gates) >= MAX_GATES:
            raise EnrolError(Refusal.TOO_MANY)
        files.make_directory(self.directory)
        files.replace(self._path(new.gate), new.certificate.public_bytes(Encoding.PEM))
        self.changed()
        return new.gate

    def revoke(self, gate: str) -> None:
        """Take the gate's certificate out; it stays under `revoked/`. Raises EnrolError, OSError."""
        if not topics.ID.fullmatch(gate):
            raise EnrolError(Refusal.NOT_ENROLLED)
        try:
            serial = f"{self._read(gate + SUFFIX).certificate.serial_number:x}"
        except EnrolError as error:
            if error.refusal is Refusal.UNREADABLE and not self._path(gate).exists():
                raise EnrolError(Refusal.NOT_ENROLLED, gate) from error
            serial = "unusable"  # a file that enrols nobody goes the same way
        revoked = self.directory / REVOKED
        files.make_directory(revoked)
        self._path(gate).rename(revoked / f"{gate}-{serial}{SUFFIX}")
        for directory in (self.directory, revoked):
            files.sync_directory(directory)
        self.changed()

    def _path(self, gate: str) -> Path:
        return self.directory / f"{gate}{SUFFIX}"

    def _look(self) -> State:
        return tuple(
            (path.name, about.st_ino, about.st_size, about.st_mtime_ns)
            for path in _certificates(self.directory, MAX_GATES)
            if (about := _stat(path)) is not None
        )

    def _read(self, name: str) -> Enrolment:
        found = read_certificate(_content(self.directory / name))
        if name != found.gate + SUFFIX:
            raise EnrolError(Refusal.WRONG_FILE, name)
        return found

    def _revoked_keys(self) -> set[bytes]:
        keys = set()
        for path in _certificates(self.directory / REVOKED, MAX_REVOKED):
            try:
                keys.add(_public(read_certificate(_content(path)).key))
            except EnrolError:
                continue  # it enrolled nobody, so there is no key to keep out
        return keys


def _certificates(directory: Path, at_most: int) -> list[Path]:
    """Files named *.pem, by name. Raises OSError, and EnrolError when there are more than `at_most`."""
    try:
        found = [path for path in directory.iterdir() if path.suffix == SUFFIX and not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    if len(found) > at_most:
        raise EnrolError(Refusal.TOO_MANY, directory.name)
    return sorted(found)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # it has just gone; the next look says so too


def _content(path: Path) -> bytes:
    """Never more than one byte above the limit, and never of anything but a plain file."""
    try:
        if not path.is_file():
            raise EnrolError(Refusal.UNREADABLE, path.name)
        with path.open("rb") as file:
            return file.read(MAX_CERTIFICATE + 1)
    except OSError as error:
        raise EnrolError(Refusal.UNREADABLE, path.name) from error


def _public(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
