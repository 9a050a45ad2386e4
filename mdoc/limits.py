"""Every limit of the parsers, in one place, each with its reason. Checked before anything expensive."""

MAX_MESSAGE = 256 * 1024
"""Bytes of one session message or device response. A portrait takes 15 to 60 kB."""
MAX_DEPTH = 16
"""Nested arrays, maps and tags. A device response needs 9; element values may nest a little."""
MAX_ITEMS = 4096
"""Array entries plus map keys and values announced in one decode."""
MAX_SESSION_ITEMS = 64
"""Of one session message: it has two members, and later versions add few."""
MAX_ENGAGEMENT_ITEMS = 512
"""Of a device engagement. The fullest seen has about 40."""
MAX_PASS_ITEMS = 128
"""Of each layer of a QR pass. Ours have about 20."""
MAX_INT_KEYED_MAP = 512
"""Entries of a map with whole-number keys. valueDigests of the largest known mDL has about 60."""
MAX_INT_KEY = 2**60
"""Magnitude of a whole-number map key. Python hashes an int to itself modulo 2^61 - 1, so only larger keys can be made to
collide at will (20,000 of them cost seconds); digestIDs of real producers stay below 2^32 (9.1.2.4 says 2^31)."""
MAX_ENGAGEMENT = 2048
"""Bytes of a DeviceEngagement. The fullest seen has about 200."""
MAX_RANDOM = 128
"""Bytes of IssuerSignedItem.random; at least 16 are required (9.1.2.5)."""
MIN_RANDOM = 16
MAX_CERTIFICATE = 4096
"""Bytes of one DER certificate; also bounds the work of an RSA or large-curve key."""
MAX_CHAIN = 3
"""Certificates in an x5chain."""
MAX_STATUS_LIST = 4 * 1024 * 1024
"""Bytes of an unpacked status list: 32 million one-bit entries, 250 times the 130,000 holders foreseen."""
MAX_QR_PASS = 1024
"""Characters of a QR pass; version 14 at level M holds 528 alphanumeric ones."""
MAX_IDENTIFIERS = 100_000
"""Entries of an identifier list: revoked credentials of one issuer."""
MAX_CRL = 1024 * 1024
"""Bytes of a certificate revocation list: some 25,000 signers."""
MAX_VICAL = 2 * 1024 * 1024
"""Bytes of a VICAL. The largest of three real ones has 43 kB for 35 authorities."""
MAX_VICAL_ITEMS = 65536
"""Array entries plus map keys and values of a VICAL, 24 an authority."""
