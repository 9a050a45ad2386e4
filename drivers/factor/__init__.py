"""External second factors, such as a face terminal, behind `drivers.ports.SecondFactor`."""

from __future__ import annotations

from pathlib import Path

from drivers.factor.callback import CallbackFactor
from drivers.factor.contact import ContactFactor
from drivers.ports import SecondFactor


def open_factor(*, driver: str, path: str) -> SecondFactor:
    """`callback`: a terminal that listens on the Unix socket `path` and answers with the attempt's id. `contact`: a
    terminal that closes a contact of an input module on the Unix socket `path`.

    Raises ValueError for a driver that does not exist.
    """
    match driver:
        case "callback":
            return CallbackFactor(Path(path))
        case "contact":
            return ContactFactor(Path(path))
        case _:
            raise ValueError(f"no second factor driver {driver!r}")
