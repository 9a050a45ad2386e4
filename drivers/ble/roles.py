"""Which of the roles that phone and reader can both play carries a session (ISO/IEC 18013-5 8.2.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from drivers.ports import BleRole
from mdoc.engagement import BleOptions


def meeting(options: BleOptions | None, roles: Sequence[BleRole]) -> tuple[BleRole, UUID] | None:
    """The first of the reader's `roles` that the phone offers, and its service; None where there is none."""
    if options is None:
        return None
    offered = {
        BleRole.CENTRAL: options.peripheral_server_uuid if options.peripheral_server else None,
        BleRole.PERIPHERAL: options.central_client_uuid if options.central_client else None,
    }
    for role in roles:
        service = offered[role]
        if service is not None:
            return role, service
    return None
