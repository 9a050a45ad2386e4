"""May this verified presentation pass here, now? A pure function of facts; the gate decides and the console explains with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from policy.document import Policy
from policy.reasons import Reason


@dataclass(frozen=True, slots=True)
class Attributes:
    """Verified attributes a rule may speak of. Held for the length of one decision, never stored."""

    doc_type: str
    agency_code: str
    card_type: str
    access_class: str


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is None exactly when access is granted."""

    reason: Reason | None

    @property
    def granted(self) -> bool:
        return self.reason is None


def decide(policy: Policy, point: str, attributes: Attributes, now: datetime) -> Decision:
    """Decide for access point `point` (a name in the policy; KeyError otherwise) at `now` (aware).

    Order: document type, access class for the zone, agency, weekly hours. The first that fails is the reason.
    """
    zone = policy.zones[policy.points[point].zone]
    if attributes.doc_type not in zone.doc_types:
        return Decision(Reason.WRONG_DOCUMENT_TYPE)
    if attributes.access_class not in zone.access_classes:
        return Decision(Reason.NO_RIGHT_ZONE)
    if zone.agencies is not None and attributes.agency_code not in zone.agencies:
        return Decision(Reason.AGENCY)
    schedule = policy.schedules[zone.schedule_by_card_type.get(attributes.card_type, zone.schedule)]
    if not schedule.open_at(now.astimezone(policy.timezone)):
        return Decision(Reason.OUTSIDE_SCHEDULE)
    return Decision(None)
