"""The command line of orders: every verb, no secret on it, and a mistake says what is expected."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gwanmun import controller_cli
from gwanmun.controller_cli import EXIT_USAGE, VERBS, command
from gwanmun.controller_client import Api
from protocol.command import EMERGENCY, CommandVerb

GOOD = """\
site = "hq"
state_dir = "state"
[web]
port = 1
"""
WHO = ["--operator", "Kim", "--role", "guard"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "controller.toml"
    file.write_text(GOOD)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "api-token").write_text("t\n")
    return file


def test_the_command_line_has_every_order_korean_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(VERBS) == {*CommandVerb, EMERGENCY}
    with pytest.raises(SystemExit):
        command(["--help"])
    text = capsys.readouterr().out
    assert all(str(verb).replace("_", "-") in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_nobody_orders_without_saying_who(verb: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--config", str(config), verb.replace("_", "-"), "--gate", "g"])
    assert ended.value.code == EXIT_USAGE
    assert "--operator" in capsys.readouterr().err


def test_arguments_reach_the_order_under_its_own_names(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[tuple[str, object]] = []

    def post(_self: Api, path: str, body: object) -> tuple[int, object]:
        posted.append((path, body))
        return 200, {"id": "c", "outcome": "done", "reason": None, "results": {}}

    monkeypatch.setattr(Api, "post", post)
    words = ["replay", "--gate", "g", "--epoch", "e1", "--from", "3", "--to", "9", *WHO]
    assert command(["--config", str(config), *words]) == 0
    assert command(["--config", str(config), "emergency", "--zone", "a", "--zone", "b", "--level", "2", *WHO]) == 0
    who = {"operator": "Kim", "role": "guard"}
    args = {"epoch": "e1", "from": 3, "to": 9}
    assert posted == [
        ("/api/v1/commands", {"gate": "g", "lane": "all", "verb": "replay", "args": args, **who}),
        ("/api/v1/emergency", {"levels": {"a": 2, "b": 2}, **who}),
    ]


@pytest.mark.parametrize(
    ("outcome", "status"), [("done", 0), ("refused", 1), ("not_sent", 1), ("no_answer", controller_cli.EXIT_NO_ANSWER)]
)
def test_the_exit_status_says_how_it_went(
    config: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, status: int
) -> None:
    answer = {"id": "c", "outcome": outcome, "reason": "why", "results": {"l1": "lockdown"}}
    monkeypatch.setattr(Api, "post", lambda *_: (200, answer))
    assert command(["--config", str(config), "release", "--gate", "g", *WHO]) == status


def test_a_controller_that_does_not_answer_a_missing_token_and_a_wrong_key_are_told_in_two_languages(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, release = ["--config", str(config)], ["release", "--gate", "g", *WHO]
    assert command([*base, *release]) == EXIT_USAGE
    assert "does not answer" in capsys.readouterr().err
    second = ["--second", "Lee", "--second-role", "chief", "--second-key", str(config)]
    assert command([*base, "free", "--gate", "g", *WHO, *second]) == EXIT_USAGE
    assert "PEM" in capsys.readouterr().err
    (config.parent / "state" / "api-token").unlink()
    assert command([*base, *release]) == EXIT_USAGE
    assert "토큰" in capsys.readouterr().err
    config.write_text("site = 3")
    assert command([*base, *release]) == EXIT_USAGE
    assert "site" in capsys.readouterr().err


def test_a_token_goes_to_the_controller_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to a proxy of the environment nor where an answer points to."""
    asked: list[str] = []

    class Away(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")  # type: ignore[index]
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Away) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
        status, _ = Api(f"http://127.0.0.1:{server.server_port}", "secret").get("/api/v1/alarms")
        server.shutdown()
    assert (status, asked) == (302, ["/api/v1/alarms"])
