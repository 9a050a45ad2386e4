"""The gates of this site: a directory of their certificates, one file each, whose name is the gate's id.

Whoever stands here may connect and write under its own name (controller.acl), and what it signs counts (controller.ingest).
A revoked gate's certificate moves to `revoked/`: its right goes at once, and the file stays for whoever asks later. Public data;
a backup is a copy of the directory.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from controller.config import CLIENT_ID
from protocol import topics

SUFFIX = ".pem"
REVOKED = "revoked"
MAX_GATES = 2000
"""Five sites of the size that one controller serves."""
MAX_CERTIFICATE = 16 * 1024
_CURVES = (ec.SECP256R1, ec.SECP384R1)


class EnrolError(Exception):
    """Korean and English, a line each."""

    def __init__(self, ko: str, en: str) -> None:
        super().__init__(en)
        self.ko, self.en = ko, en


def gate_of(certificate: x509.Certificate) -> str:
    """The id that a gate's certificate is for. Raises EnrolError."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    gate = str(names[0].value) if len(names) == 1 else ""
    if not topics.ID.fullmatch(gate) or gate in {topics.ALL, CLIENT_ID}:
        raise EnrolError(
            "인증서의 CN이 게이트 이름이어야 합니다(소문자, 숫자, 하이픈; all과 controller는 안 됨)",
            "the certificate's common name must be a gate's id (lower-case letters, digits, hyphens; not all or controller)",
        )
    return gate


def read_certificate(pem: bytes) -> x509.Certificate:
    """One certificate with an elliptic-curve key that signs records as well. Raises EnrolError."""
    try:
        if len(pem) > MAX_CERTIFICATE:
            raise ValueError("too long")
        found = x509.load_pem_x509_certificate(pem)
        key = found.public_key()
    except (ValueError, TypeError) as error:
        raise EnrolError("PEM 인증서가 아닙니다", "not a PEM certificate") from error
    except Exception as error:  # cryptography: UnsupportedAlgorithm and its like have no common base
        raise EnrolError("쓸 수 없는 인증서입니다", f"an unusable certificate ({type(error).__name__})") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise EnrolError("키는 P-256이나 P-384여야 합니다", "its key must be on P-256 or P-384")
    return found


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


class Enrolled:
    """Reads and writes the directory. `changed` says whether another process has written since the last look."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory where it is not there. Raises OSError."""
        self._directory = directory
        for each in (directory, directory / REVOKED):
            make_directory(each)
        self._gates: dict[str, x509.Certificate] = {}
        self._keys: dict[str, ec.EllipticCurvePublicKey] = {}
        self._seen: tuple[tuple[str, int, int, int], ...] | None = None
        self.problems: dict[str, str] = {}
        """Files that count for nothing, and why."""
        self.changed()

    def changed(self) -> bool:
        """Look again; True when there is another set of files than before. Raises OSError."""
        files = sorted(
            (entry.name, stat.st_mtime_ns, stat.st_size, stat.st_ino)
            for entry in os.scandir(self._directory)
            if entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
            for stat in [entry.stat(follow_symlinks=False)]
        )
        if tuple(files) == self._seen:
            return False
        gates: dict[str, x509.Certificate] = {}
        problems: dict[str, str] = {}
        for name, *_ in files[:MAX_GATES]:
            try:
                certificate = read_certificate((self._directory / name).read_bytes())
                if gate_of(certificate) != name.removesuffix(SUFFIX):
                    raise EnrolError("파일 이름과 CN이 다릅니다", "its common name is not the file's")
                gates[name.removesuffix(SUFFIX)] = certificate
            except EnrolError as error:
                problems[name] = error.en
            except FileNotFoundError:
                continue  # revoked this very moment
        for name, *_ in files[MAX_GATES:]:
            problems[name] = f"more than {MAX_GATES} gates"
        self._gates, self.problems, self._seen = gates, problems, tuple(files)
        self._keys = {
            gate: key for gate, each in gates.items() if isinstance(key := each.public_key(), ec.EllipticCurvePublicKey)
        }
        return True

    def gates(self) -> Mapping[str, x509.Certificate]:
        """By id, as of the last look."""
        return self._gates

    def public_key(self, gate: str) -> ec.EllipticCurvePublicKey | None:
        """What a gate's statements are checked with; None for one that is not enrolled."""
        return self._keys.get(gate)

    def add(self, pem: bytes) -> str:
        """Enrol a gate by its certificate; gives its id. A renewed certificate of the same key takes the place of the old one.
        Raises EnrolError, OSError."""
        certificate = read_certificate(pem)
        gate = gate_of(certificate)
        self.changed()
        known = self._gates.get(gate)
        if known is not None and known.public_key() != certificate.public_key():
            raise EnrolError(
                f"{gate}: 다른 키로 이미 등록되어 있습니다. 먼저 폐지하십시오",
                f"{gate}: enrolled already with another key; revoke that one first",
            )
        if known is None and len(self._gates) >= MAX_GATES:
            raise EnrolError(f"게이트는 {MAX_GATES}개까지입니다", f"at most {MAX_GATES} gates")
        replace_file(self._directory / f"{gate}{SUFFIX}", certificate.public_bytes(Encoding.PEM))
        self.changed()
        return gate

    def revoke(self, gate: str) -> None:
        """Take a gate's rights. Raises EnrolError for one that is not enrolled, OSError."""
        self.changed()
        path = self._directory / f"{gate}{SUFFIX}"
        if not topics.ID.fullmatch(gate) or not path.is_file():
            raise EnrolError(f"{gate}: 등록되지 않은 게이트입니다", f"{gate}: not enrolled")
        number = f"{self._gates[gate].serial_number:x}"[:40] if gate in self._gates else "unreadable"
        target = self._directory / REVOKED / f"{gate}-{number}{SUFFIX}"
        if target.exists():
            target = target.with_name(f"{gate}-{number}-{secrets.token_hex(4)}{SUFFIX}")
        path.rename(target)
        for each in (self._directory, self._directory / REVOKED):
            sync_directory(each)
        self.changed()

    def enrolled_at(self, gate: str) -> datetime:
        """When its certificate was put there; aware. Raises OSError."""
        return datetime.fromtimestamp((self._directory / f"{gate}{SUFFIX}").stat().st_mtime, UTC)


def make_directory(path: Path) -> None:
    """0755; made by root, it belongs to whom the directory above belongs to: the service goes on writing there."""
    if path.is_dir():
        return
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    if os.geteuid() == 0:
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid)


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """On the disk and whole, or not at all. Raises OSError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
