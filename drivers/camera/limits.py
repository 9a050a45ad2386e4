"""Limits of the camera driver. No heavy import: the agent's process loads this module, the decoders only the worker's."""

MAX_PAYLOAD = 4296
"""Bytes. Alphanumeric characters in a version 40 code at level L (ISO/IEC 18004 table 7): longer than any format of ours."""
MAX_CODES = 8
"""Codes taken from one frame. A phone shows one; a picture full of codes must not flood the lane."""
MAX_WAITING = 32
"""Codes waiting for the lane. One camera sees a handful a second at most."""
MAX_LINE = 4 * MAX_PAYLOAD
"""Bytes of one line from the worker: base64 of a payload and three numbers."""
MAX_FPS = 60.0
"""Frames decoded a second that a configuration may ask for."""

SETTINGS_BAD, SOURCE_FAILED = 2, 3
"""Exit status of the worker."""
