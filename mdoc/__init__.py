"""ISO/IEC 18013-5 as a sans-I/O library, both sides of the air (reader and holder): bytes in, bytes or verdicts out.

No hardware, no network, no clock: time, randomness and keys are passed in. Imports no other package of this project.
"""
