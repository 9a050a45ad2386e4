"""The keys a gate is configured with: its own towards phones, and those of whoever signs what it trusts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from gate_agent.config import ConfigError, Expected, GateConfig
from mdoc.certificates import load_pem
from mdoc.cose import PublicKey
from mdoc.errors import TrustError
from mdoc.reader import ReaderIdentity


@dataclass(frozen=True, slots=True)
class Signers:
    """Keys of who may sign what, beside the issuer list's."""

    policy: PublicKey | None = None
    """None: the rules are taken unsigned."""
    deny: PublicKey | None = None
    """None: no deny list is taken."""
    visit: PublicKey | None = None
    """None: no visit record is taken."""
    pkoc: PublicKey | None = None
    """None: no PKOC key is taken."""
    command: PublicKey | None = None
    """None: no order from afar is taken."""


def public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """A public key of somebody who signs lists or rules. Raises ConfigError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(path, "", Expected("PEM 공개키가 있어야 합니다", "a PEM public key is expected")) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(
            path, "", Expected("타원곡선 공개키가 있어야 합니다", "an elliptic-curve public key is expected")
        )
    return key


def gate_key(config: GateConfig) -> ec.EllipticCurvePrivateKey:
    """The gate's own key, of its certificate towards the broker; it signs what the journal vouches for. Raises ConfigError."""
    try:
        key = load_pem_private_key(config.mqtt.key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        why = Expected("암호 없는 PEM 개인키가 있어야 합니다", "a PEM private key without a password is expected")
        raise ConfigError(config.file, "mqtt.key", why) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        why = Expected("타원곡선 개인키여야 합니다", "an elliptic-curve key is expected")
        raise ConfigError(config.file, "mqtt.key", why)
    return key


def signers(config: GateConfig) -> Signers:
    """Raises ConfigError."""
    paths = (config.policy_key, config.deny_key, config.visit_key, config.pkoc_key, config.command_key)
    return Signers(*(None if path is None else public_key(path) for path in paths))


def reader_identity(config: GateConfig) -> ReaderIdentity:
    """Chain and key for reader authentication. Raises ConfigError when they cannot be used together."""
    paths = config.reader
    try:
        chain = load_pem(paths.certificate.read_bytes())
    except (OSError, TrustError) as error:
        why = Expected("판독기 인증서(PEM)를 읽을 수 없습니다", "a PEM certificate chain is expected, leaf first")
        raise ConfigError(config.file, "reader.certificate", why) from error
    try:
        key = load_pem_private_key(paths.key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        why = Expected("암호 없는 PEM 개인키가 있어야 합니다", "a PEM private key without a password is expected")
        raise ConfigError(config.file, "reader.key", why) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != chain[0].public_key():
        why = Expected(
            "첫 인증서의 타원곡선 개인키여야 합니다", "the elliptic-curve key of the first certificate is expected"
        )
        raise ConfigError(config.file, "reader.key", why)
    return ReaderIdentity(key, chain)
