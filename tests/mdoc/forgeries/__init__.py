"""A forging kit: presentations with one thing wrong, each with its clause and the reasons that may refuse it.

Independent of what it attacks: `wire` writes any CBOR and any DER, `x509` and `builder` make certificates, credentials and
presentations from them with `cryptography` alone. The other modules are tables of forgeries, one an attacker's target.
"""
