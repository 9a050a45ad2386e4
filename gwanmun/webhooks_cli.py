"""`gwanmun controller webhooks`: how far each webhook is, and one message to try it.

Exit status: 0 done, 1 not delivered or no database, 2 wrong command line or configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from controller.config import ConfigError, Place, load_place, load_webhooks
from controller.webhook_message import trial
from controller.webhook_post import Answer, CaError, Outcome, Post
from controller.webhook_rows import Standing, standings
from controller.webhook_settings import SecretError, read_secrets
from gwanmun.owner import become_owner
from protocol.clock import SystemClock

WEBHOOKS = "webhooks"
EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        return _list(load_place(options.config)) if options.test is None else _try(options.config, options.test)
    except ConfigError as error:
        print(error.text(), file=sys.stderr)
        return EXIT_USAGE
    except (SecretError, CaError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except (sqlite3.Error, OSError) as error:
        print(f"데이터베이스를 읽을 수 없습니다: {error}\nthe database cannot be read: {error}", file=sys.stderr)
        return EXIT_FAILED


def _list(place: Place) -> int:
    become_owner(place.state_dir)  # whatever SQLite leaves beside the database is its owner's then
    uri = f"{place.database.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        found = standings(connection)
    for each in found:
        print(f"{each.name}  {_state(each)}")
    if not found:
        print("웹훅이 없습니다.\nThere are no webhooks.")
    return EXIT_DONE


def _state(each: Standing) -> str:
    parts = [f"대기 waiting {each.waiting}"]
    if each.disabled:
        parts.append(f"꺼짐 disabled: {each.why}")
    elif each.failing is not None:
        parts.append(f"실패 failing since {each.failing}: {each.why} ({each.attempts})")
    if each.delivered is not None:
        parts.append(f"마지막 전달 last delivered {each.delivered}")
    if each.given_up:
        parts.append(f"포기 given up {each.given_up}")
    return "  ".join(parts)


def _try(config: Path, name: str) -> int:
    place, webhooks = load_webhooks(config)
    found = [each for each in webhooks if each.name == name]
    if not found:
        print(f"이런 웹훅이 없습니다: {name}\nthere is no such webhook: {name}", file=sys.stderr)
        return EXIT_USAGE
    clock = SystemClock()

    async def post() -> Answer:
        sender = Post(found[0], read_secrets(found[0]), clock)
        try:
            return await sender(trial(place.site, secrets.token_hex(8), clock.now()))
        finally:
            await sender.close()

    answer = asyncio.run(post())
    if answer.outcome is Outcome.DELIVERED:
        print(f"{name}: 전달됨 / delivered ({answer.why})")
        return EXIT_DONE
    print(f"{name}: 전달되지 않음 / not delivered ({answer.why})", file=sys.stderr)
    return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gwanmun controller webhooks",
        description="웹훅의 상태를 보이거나 시험합니다 / show how far the webhooks are, or try one",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="controller.toml")
    parser.add_argument("--test", metavar="NAME", help="시험 메시지를 한 번 보냄 / send one test message")
    return parser
