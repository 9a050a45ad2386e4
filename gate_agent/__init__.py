"""The edge process on the reader hardware: lanes, transactions, passage, journal, uplink, trust cache.

Imports mdoc, card, policy, protocol and drivers. One asyncio loop owns everything but the journal's thread and the drivers' own.
"""
