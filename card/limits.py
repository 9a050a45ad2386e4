"""Every limit of the card exchanges, in one place, each with its reason."""

MAX_OBJECT = 4096
"""Bytes of one data object with its head. SP 800-73-4 part 1 table 7 gives the certificate container 1905 bytes; larger keys and
longer names stay below twice that."""
MAX_ROUNDS = 64
"""GET RESPONSE commands for one object: four times what a card needs that fills every short response."""
MAX_ITEMS = 64
"""Data objects read inside one other. The fullest object of a PIV card has 13."""
MAX_SIGNATURE = 1024
"""Bytes of the answer to GENERAL AUTHENTICATE: an RSA-3072 signature with its heads has 392."""
MAX_SELECT = 256
"""Bytes of what an application says of itself."""
MAX_AUTHORITIES = 256
"""Pinned and intermediate authorities of cards."""
MAX_PATH = 4
"""Authorities from the one that issued the card up to the pinned one, both included."""
NONCE = 32
"""Bytes of a challenge."""
