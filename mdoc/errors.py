"""Every exception that leaves this package. A security failure is a verdict (mdoc.verify), not an exception."""

from __future__ import annotations


class MdocError(Exception):
    """Base of all errors of this package."""


class MalformedError(MdocError):
    """Bytes that break the structure or a limit. The message names the place, never the content."""


class HandoverError(MalformedError):
    """An NDEF file, handover message or TNEP exchange that breaks its format, a limit, or what was offered."""


class NotReadyError(MdocError):
    """The phone has no engagement to give yet: locked (6A82), or its NDEF file stays empty. Worth asking again."""


class SessionError(MdocError):
    """A session message that does not decrypt, is out of order or carries an error status (18013-5 9.1.1.4)."""


class HolderDeclinedError(MdocError):
    """The holder's side ended the session without data (status 20, 18013-5 table 20)."""


class TrustError(MdocError):
    """Trust data (issuer, list, status) that cannot be used. The message names the file or entry."""
