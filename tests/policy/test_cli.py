from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policy import cli
from policy.decision import RULES
from tests.policy.conftest import BASE

NOW = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
WHO = "doc_type=kr.go.civilservant.1,issuer=KR Interior,access_class=secure,agency=1741000,card_type=staff"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(BASE, "utf-8")
    return path


def run(*arguments: object) -> tuple[int, str]:
    out = io.StringIO()
    status = cli.main([str(argument) for argument in arguments], out, lambda: NOW)
    return status, out.getvalue()


def run_json(*arguments: object) -> tuple[int, Any]:
    status, text = run(*arguments, "--json")
    return status, json.loads(text)


def variant(document: Path, old: str, new: str) -> Path:
    path = document.with_name("new.toml")
    path.write_text(BASE.replace(old, new, 1), "utf-8")
    return path


def test_check_says_usable_and_what_each_point_asks_for(document: Path) -> None:
    status, text = run("check", document)
    assert status == 0
    assert "쓸 수 있습니다" in text
    assert "Usable. Version 3" in text
    assert "  hall-in: access_class, card_type\n" in text
    assert run_json("check", document) == (
        0,
        {
            "usable": True,
            "version": 3,
            "requested": {
                "hall-in": {"attributes": ["access_class", "card_type"], "holder_handle": False},
                "side-in": {"attributes": ["agency_code", "card_type"], "holder_handle": False},
                "vault-in": {"attributes": ["access_class", "agency_code", "card_type"], "holder_handle": True},
                "vault-out": {"attributes": [], "holder_handle": True},
            },
        },
    )


def test_check_names_every_mistake_in_both_languages_korean_first(document: Path) -> None:
    bad = variant(document, "factors = 2", "factors = 7")
    status, text = run("check", bad)
    assert status == 1
    assert text.splitlines()[0].startswith(f"{bad}: zones.vault.factors: 1에서 2")
    assert text.splitlines()[1] == f"{bad}: zones.vault.factors: a whole number from 1 to 2 is expected"
    status, found = run_json("check", bad)
    assert (status, found["usable"], found["problems"][0]["place"]) == (1, False, "zones.vault.factors")


def test_explain_names_every_rule_in_order_with_its_state(document: Path) -> None:
    status, text = run("explain", document, "--point", "vault-in", "--attributes", WHO.replace("secure", "general"))
    assert status == 1
    for rule in RULES:
        assert f"{rule.ko} · {rule.en}: " in text
    assert " 6 출입 등급 · access class: 불허 · failed" in text
    assert " 7 소속 기관 · agency: 보지 않음 · not reached" in text
    assert "거절 · refused: no_right_zone" in text


def test_explain_shows_no_value_that_the_point_does_not_look_at(document: Path) -> None:
    _, found = run_json("explain", document, "--point", "hall-in", "--attributes", WHO, "--at", "2026-11-23T11:30")
    details = {rule["rule"]: rule["detail_en"] for rule in found["rules"]}
    assert "1741000" not in details["agency"]
    assert "does not look at it" in details["agency"]
    assert details["card_type"].startswith("staff; profiles left: staff")


def test_explain_takes_the_facts_that_are_given(document: Path) -> None:
    base = ["explain", document, "--point", "vault-in", "--attributes", WHO, "--at", "2026-11-23T11:30"]
    status, found = run_json(*base)
    assert (status, found["granted"], found["wait"], found["wait_s"]) == (1, False, "second_factor", 8)
    ready = [*base, "--second-factor", "passed", "--second-person", "another", "--occupancy", "4"]
    assert run_json(*ready)[0] == 0
    for more, reason in (
        (["--carrier", "qr"], "carrier_not_allowed"),
        (["--lockdown", "1"], "lockdown"),
        (["--denied"], "denied_list"),
        (["--occupancy", "5"], "occupancy_upper"),
        (["--antipassback", "inside"], "antipassback_hard"),
        (["--at", "2026-11-23T03:00"], "outside_schedule"),
        (["--at", "2026-11-23T11:30+00:00"], "outside_schedule"),
        (["--at", "2026-11-25T11:30"], "holiday"),
        (["--attributes", WHO.replace("staff", "guest")], "escort_missing"),
        (["--attributes", WHO.replace("staff", "visitor")], "visit_missing"),
    ):
        assert run_json(*ready, *more)[1]["reason"] == reason
    visitor = ["--attributes", WHO.replace("staff", "visitor"), "--visit", "vault,2026-11-23T10:00,2026-11-23T12:00"]
    assert run_json(*ready, *visitor)[0] == 0
    assert run_json(*ready, *visitor[:-1], visitor[-1] + ",host")[1]["reason"] == "escort_missing"


def test_explain_says_that_an_exit_is_never_barred(document: Path) -> None:
    status, text = run("explain", document, "--point", "vault-out", "--attributes", "", "--denied", "--lockdown", "3")
    assert status == 0
    assert "막지 않습니다" in text


def test_diff_ends_with_0_where_nothing_differs_and_1_where_something_does(document: Path) -> None:
    status, text = run("diff", document, document)
    assert status == 0
    assert "Nothing is decided differently" in text
    new = variant(document, 'tue = ["07:00-20:00"]', 'tue = ["07:00-21:00"]')
    status, text = run("diff", document, new)
    assert status == 1
    assert "hall-in: outside_schedule -> 허용·granted" in text
    assert "화·tue: 20:00-21:00" in text
    assert "    card_type: staff\n" in text
    status, found = run_json("diff", document, new)
    assert status == 1
    row = next(one for one in found["decisions"] if one["point"] == "hall-in" and one["after"] == "granted")
    assert row["attributes"]["card_type"] == {"values": ["staff"], "any_other": False}
    assert row["times"] == [{"days": ["tue", "tue after_holiday"], "hours": ["20:00-21:00"]}]


def test_diff_tells_a_day_after_a_holiday_from_others(document: Path) -> None:
    new = variant(document, 'holiday = ["10:00-11:00"]', 'holiday = ["22:00-02:00+1"]')
    _, text = run("diff", document, new)
    assert "목(휴일 다음 날)·thu after a holiday" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "FILE", "--point", "nowhere", "--attributes", WHO],
        ["explain", "FILE", "--point", "vault-in", "--attributes", "name=Hong"],
        ["explain", "FILE", "--point", "vault-in", "--attributes", WHO, "--at", "noon"],
        ["explain", "FILE", "--point", "vault-in", "--attributes", WHO, "--visit", "vault"],
        ["explain", "ABSENT", "--point", "vault-in", "--attributes", WHO],
        ["check", "ABSENT"],
        ["diff", "FILE", "ABSENT"],
        ["diff", "FILE", "BAD"],
        ["diff", "FILE", "FILE", "--from", "monday"],
        ["diff", "FILE", "FILE", "--days", "0"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(
    document: Path, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = variant(document, "factors = 2", "factors = 7")
    names = {"FILE": str(document), "BAD": str(bad), "ABSENT": str(document.with_name("absent.toml"))}
    assert run(*(names.get(argument, argument) for argument in arguments))[0] == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["check"], ["explain", "x"], ["unknown"], ["explain", "x", "--carrier", "fax"]]
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert "usage: gwanmun policy" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_told_in_both_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nowhere.toml"
    assert run("check", missing)[0] == cli.EXIT_USAGE
    korean, english = capsys.readouterr().err.splitlines()
    assert f"{missing}: 쓸 수 없는 파일입니다" in korean
    assert f"{missing}: the file cannot be used" in english


def test_a_comparison_that_would_go_on_past_the_calendar_is_wrong_usage(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diff", document, document, "--from", "9999-12-30")[0] == cli.EXIT_USAGE
    assert "9999-12-30" in capsys.readouterr().err
