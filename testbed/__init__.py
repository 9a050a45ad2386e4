"""The demo building: issuing authority, phones, the virtual air and the virtual hardware. Never part of a packaged gate."""
