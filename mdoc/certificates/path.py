"""A certification path of more than one step (RFC 5280 6.1, without policies): list signers sit below an intermediate authority.

Document signers never do; they are checked by `TrustAnchors.issued`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mdoc.certificates import der
from mdoc.certificates.profiles import Profile, broken_rule
from mdoc.certificates.structure import (
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    KEY_CERT_SIGN,
    KEY_USAGE,
    Certificate,
    authority_identifier,
    basic_constraints,
    key_identifier,
    key_usage,
    signed_by,
    valid_at,
)
from mdoc.errors import MalformedError

_MAY_BE_CRITICAL = frozenset({BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE})


def authority_problem(authority: Certificate, below: int) -> str | None:
    """Why `authority` may not stand over a leaf and `below` intermediates."""
    is_authority, length = basic_constraints(authority)
    usage = key_usage(authority)
    if not is_authority or (length is not None and length < below):
        return "an issuer that is no certification authority, or not for a path as long"
    if usage is not None and not usage & KEY_CERT_SIGN:
        return "an issuer that may not sign certificates"
    for identifier, (critical, _) in authority.extensions.items():
        if critical and identifier not in _MAY_BE_CRITICAL:
            return f"critical extension {der.dotted(identifier)} is not known"
    return None


def _issued(child: Certificate, parent: Certificate) -> bool:
    expected, named = key_identifier(parent), authority_identifier(child)
    if expected is not None and named is not None and expected != named:
        return False
    return signed_by(child, parent)


def path_problem(
    chain: Sequence[Certificate], roots: Sequence[Certificate], profile: Profile, moment: datetime
) -> str | None:
    """What keeps `chain` (leaf first, root optional) from leading to one of `roots` at `moment`, or None.

    Every certificate after the leaf must be the issuer of the one before it; nothing may stand there beside the path.
    """
    try:
        return _problem(chain, roots, profile, moment)
    except MalformedError as error:
        return str(error)


def _problem(
    chain: Sequence[Certificate], roots: Sequence[Certificate], profile: Profile, moment: datetime
) -> str | None:
    for at, certificate in enumerate(chain):
        if not valid_at(certificate, moment):
            return "a certificate of the chain is outside its dates"
        if at > 0:
            problem = authority_problem(certificate, at - 1)
            if problem is not None:
                return problem
        rest = chain[at + 1 :]
        root = next((root for root in roots if _issued(certificate, root)), None)
        if root is not None and all(entry == root for entry in rest):
            if not valid_at(root, moment):
                return "the root is outside its dates"
            issuer = chain[1] if at > 0 else root
            return authority_problem(root, at) or broken_rule(chain[0], profile, issuer=issuer)
        if not rest or not _issued(certificate, rest[0]):
            break
    return "no configured root issued it"
