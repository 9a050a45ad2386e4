"""Chaos: gates, broker and controller as real processes, killed, cut off and misled, and a count of every record afterwards."""
