"""Every limit of the rules document and of the state kept for it, in one place, each with its reason."""

MAX_DOCUMENT = 1024 * 1024
"""Bytes of the document. 2,000 profiles and 1,000 access points take about 400 kB."""
MAX_ZONES = 500
MAX_POINTS = 1_000
"""Access points: both directions of the 400 lanes of the largest complex, and some."""
MAX_PROFILES = 2_000
MAX_SCHEDULES = 100
"""Bounds the work of one decision: every schedule may have to be looked at."""
MAX_SPECIAL_DAYS = 100
MAX_DATES = 400
"""Dates of one list: a year and some."""
MAX_WINDOWS = 12
"""Windows of one day."""
MAX_VALUES = 1_000
"""Entries of one list: agency codes of the whole government are about 700."""
MAX_NAME = 64
"""Characters of a name."""
MAX_VALUE = 128
"""Characters of an attribute's value."""
MAX_PROBLEMS = 100
"""Mistakes named at once; more are counted."""
MAX_LOCKDOWN = 9
"""Highest lockdown level."""
MAX_WAITING = MAX_POINTS
"""Access points where somebody waits for a companion: one person each."""
