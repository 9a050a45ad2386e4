"""The description of the API and the API are the same: by the routes, and by requests that schemathesis makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.config import ProjectConfig, ProjectsConfig, SchemathesisConfig
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from controller.main import Controller
from tests.controller.api_building import OFFICER, TOKEN, Building

DESCRIPTION: dict[str, Any] = json.loads((Path(__file__).parents[2] / "controller" / "openapi.json").read_text("utf-8"))
PAGES = {"/", "/live", "/healthz", "/static"}
"""Of the page and of who watches the process; not of the API."""
LATER = set() if find_spec("controller.metrics") else {"/metrics"}
NOT_ASKED = ["/api/v1/stream", "/metrics"]
"""One that does not end has tests of its own, the other is not of this app."""
RANGES = "^/api/v1/(events|traffic|latency|refusals|reports/passages|passages/query|alarms|orders)$"
ORDERS = "^/api/v1/(commands|emergency).*"
SEED = 2026


def methods(route: Route) -> set[str]:
    return {method.lower() for method in route.methods or ()} - {"head"}


async def test_every_route_is_described_and_every_description_has_a_route(run_controller: Callable[[], Any]) -> None:
    controller: Controller = await run_controller()
    routes: dict[str, set[str]] = {}
    assert controller.site is not None
    for route in controller.site.routes:
        assert isinstance(route, Route | Mount)
        if route.path not in PAGES:
            assert isinstance(route, Route)
            routes.setdefault(re.sub(r":\w+}", "}", route.path), set()).update(methods(route))
    described = {path: set(item) - {"parameters"} for path, item in DESCRIPTION["paths"].items()}
    assert {path: each for path, each in described.items() if path not in LATER} == routes


def test_every_operation_has_both_languages_and_a_name_of_its_own() -> None:
    operations = [each for item in DESCRIPTION["paths"].values() for each in item.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    for each in operations:
        ko, _, en = each["summary"].partition(" · ")
        assert re.search("[가-힣]", ko), ko
        assert en, ko


class Asked:
    """The app of the building of this module, which is there once the tests run."""

    building: Building | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.building is not None
        await self.building.app(scope, receive, send)


APP = Asked()


@pytest.fixture(scope="module", autouse=True)
def building(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Building]:
    APP.building = Building(tmp_path_factory.mktemp("api"))
    APP.building.furnish()
    yield APP.building
    APP.building.close()


@st.composite
def moments(draw: st.DrawFn) -> str:
    at = draw(st.datetimes(datetime(2026, 11, 20), datetime(2026, 11, 26)))  # noqa: DTZ001  the strategy wants it so
    return (
        at.replace(tzinfo=UTC).isoformat().replace("+00:00", draw(st.sampled_from(["Z", "+00:00", "+09:00", "-03:30"])))
    )


schemathesis.openapi.format("date-time", moments())


def config() -> SchemathesisConfig:
    """All checks. Who sends too much is told so, whatever else is wrong. A range or a cursor that nothing can be answered to, and
    an order that does not go together, follow the description and are refused all the same."""
    rejected = {"negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "405", "413", "415"]}}
    accepted = {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "403", "404", "409"]}}
    operations = [{"include-path-regex": each, "checks": {**rejected, **accepted}} for each in (RANGES, ORDERS)]
    project = {"base-url": "http://127.0.0.1", "checks": rejected, "operations": operations}
    return SchemathesisConfig(seed=SEED, projects=ProjectsConfig(default=ProjectConfig.from_dict(project)))


whole = schemathesis.openapi.from_dict(DESCRIPTION, config=config())
whole.app = APP
schema = whole.exclude(path=NOT_ASKED)
CHECKED = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def asked(case: schemathesis.Case[Any]) -> None:
    token = OFFICER if case.operation.path == "/api/v1/passages/query" else TOKEN
    headers = {"Authorization": f"Bearer {token}"} if case.operation.definition.raw.get("security") else {}
    case.call_and_validate(headers=headers)


@schema.parametrize()
@settings(CHECKED, max_examples=12)
def test_what_is_asked_as_described_or_not_is_answered_as_described(case: schemathesis.Case[Any]) -> None:
    asked(case)


@pytest.mark.slow
@schema.parametrize()
@settings(CHECKED, max_examples=300)
def test_what_is_asked_as_described_or_not_is_answered_as_described_at_length(case: schemathesis.Case[Any]) -> None:
    asked(case)


def test_the_page_names_every_path_and_every_code_of_an_error() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "api.md").read_text("utf-8")
    for path in DESCRIPTION["paths"]:
        assert path == "/metrics" or path in page, path
    source = "".join(each.read_text("utf-8") for each in sorted((root / "controller").glob("*.py")))
    codes = set(re.findall(r'ApiError\(\s*\d{3},\s*"(\w+)"', source)) | set(
        re.findall(r'unavailable\(\s*"(\w+)"', source)
    )
    assert codes >= {"wrong_parameter", "not_permitted", "store", "token"}
    for code in codes:
        assert f"`{code}`" in page, code
