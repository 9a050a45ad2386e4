"""Plastic cards and card-like phones without input and output: the PIV card-authentication key (FIPS 201, SP 800-73) and PKOC.

Certificates, revocation lists and APDUs are read by `mdoc`'s readers; only what those cards do otherwise is here.
"""
