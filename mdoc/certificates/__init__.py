"""X.509 certificates of 18013-5 Annex B: issuing authority roots (IACA), document, status and list signers, readers.

`structure` reads them, `profiles` holds the annex's tables, `settings` what a site tolerates, `anchors` whom it trusts.
"""

from mdoc.certificates.anchors import Anchor, Chained, TrustAnchors
from mdoc.certificates.path import path_problem
from mdoc.certificates.profiles import (
    DOCUMENT_SIGNER_PROFILE,
    EKU_MDL_DS,
    EKU_MDL_READER,
    EKU_MDOC_DS,
    EKU_MDOC_READER,
    EKU_VICAL_SIGNER,
    IACA_PROFILE,
    READER_PROFILE,
    STATUS_SIGNER_PROFILE,
    VICAL_SIGNER_PROFILE,
    Profile,
    broken_rule,
    remarks,
)
from mdoc.certificates.settings import Settings, Strictness, Tolerance
from mdoc.certificates.structure import (
    Certificate,
    authority_identifier,
    chain_from_header,
    key_identifier,
    load_der,
    load_pem,
    pem_blocks,
    read,
    signed_by,
    valid_at,
    verification_key,
)

__all__ = [
    "DOCUMENT_SIGNER_PROFILE",
    "EKU_MDL_DS",
    "EKU_MDL_READER",
    "EKU_MDOC_DS",
    "EKU_MDOC_READER",
    "EKU_VICAL_SIGNER",
    "IACA_PROFILE",
    "READER_PROFILE",
    "STATUS_SIGNER_PROFILE",
    "VICAL_SIGNER_PROFILE",
    "Anchor",
    "Certificate",
    "Chained",
    "Profile",
    "Settings",
    "Strictness",
    "Tolerance",
    "TrustAnchors",
    "authority_identifier",
    "broken_rule",
    "chain_from_header",
    "key_identifier",
    "load_der",
    "load_pem",
    "path_problem",
    "pem_blocks",
    "read",
    "remarks",
    "signed_by",
    "valid_at",
    "verification_key",
]
