"""One document for all tests of the rules, and the people and moments they speak of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policy.document import parse
from policy.model import Policy

BASE = """
version = 3
timezone = "Asia/Seoul"
[holidays]
country = "KR"
add = [2026-11-25]
remove = [2026-12-25]
[schedules.office]
mon = ["07:00-12:00", "13:00-20:00"]
tue = ["07:00-20:00"]
wed = ["07:00-20:00"]
thu = ["07:00-20:00"]
fri = ["07:00-20:00"]
sun = ["22:00-24:00"]
holiday = []
[schedules.night]
mon = ["22:00-06:00+1"]
wed = ["22:00-06:00+1"]
holiday = ["10:00-11:00"]
[schedules.always]
mon = ["00:00-24:00"]
tue = ["00:00-24:00"]
wed = ["00:00-24:00"]
thu = ["00:00-24:00"]
fri = ["00:00-24:00"]
sat = ["00:00-24:00"]
sun = ["00:00-24:00"]
[special_days.year-end]
dates = [2026-12-31]
windows = ["07:00-15:00"]
schedules = ["office"]
[zones.hall]
[zones.vault]
carriers = ["nfc", "ble"]
factors = 2
second_factor_s = 8
occupancy_limit = 5
visit_card_types = ["visitor"]
clock_grace_min = 30
[zones.vault.antipassback]
mode = "hard"
cut_off = "refuse"
passes = "refuse"
[zones.vault.escort]
guests = ["guest"]
hosts = ["staff"]
within_s = 20
guests_per_host = 2
[zones.vault.two_person]
within_s = 5
[zones.vault.responders]
card_types = ["fire"]
access_classes = ["crisis"]
up_to_level = 2
[zones.vault.max_ages]
status_list = 24
clock = 12
[points.hall-in]
direction = "entry"
from = "outside"
to = "hall"
entrance_group = "hall"
[points.side-in]
direction = "entry"
from = "outside"
to = "hall"
entrance_group = "hall"
[points.vault-in]
direction = "entry"
from = "hall"
to = "vault"
entrance_group = "vault"
[points.vault-out]
direction = "exit"
from = "vault"
to = "hall"
entrance_group = "vault"
[profiles.staff]
doc_types = ["kr.go.civilservant.1"]
access_classes = ["general", "secure"]
card_types = ["staff"]
points = ["hall-in"]
schedule = "office"
[profiles.side]
doc_types = ["kr.go.civilservant.1"]
agencies = ["1741000"]
points = ["side-in"]
schedule = "always"
[profiles.guards]
doc_types = ["kr.go.civilservant.1"]
card_types = ["guard"]
zones = ["hall"]
schedule = "night"
[profiles.vault]
doc_types = ["kr.go.civilservant.1"]
issuers = ["KR Interior"]
access_classes = ["secure", "crisis"]
agencies = ["1741000"]
card_types = ["staff", "visitor", "guest", "fire"]
zones = ["vault"]
schedule = "office"
"""


@pytest.fixture(scope="session")
def base() -> str:
    return BASE


@pytest.fixture(scope="session")
def read() -> Callable[[str], Policy]:
    return lambda text: parse(text.encode())


@pytest.fixture(scope="session")
def policy() -> Policy:
    return parse(BASE.encode())
