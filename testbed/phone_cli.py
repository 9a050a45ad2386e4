"""`gwanmun phone`: be a phone at the running demo. Shows what the gate asks and by whom, asks consent, keeps the only history."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.qrpass import MAX_AGE
from protocol.clock import SystemClock
from testbed.authority import Authority, canary_person
from testbed.control import ControlError, RemoteScreen
from testbed.phone.phone import Phone, Question
from testbed.phone.wallet import Held, Wallet
from testbed.place import STATE

HOME = Path.home() / ".local" / "share" / "gwanmun-phone"
ELEMENTS = {
    "agency_code": "기관 코드 agency code",
    "card_type": "카드 종류 card type",
    "access_class": "출입 등급 access class",
    "holder_handle": "보유자 번호(무작위) holder handle (random)",
    "name": "이름 name",
}

ARMED = ("agency_code", "card_type", "access_class", "holder_handle")
"""What a walk-up presentation is armed for."""
YES = {"y", "yes", "ㅛ", "예"}


def _building(path: Path) -> dict[str, Any]:
    """Raises ControlError."""
    try:
        body: dict[str, Any] = json.loads((path / "building.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise ControlError(
            "실행 중인 데모가 없습니다. 다른 터미널에서 `make demo`를 실행하세요\n"
            "No demo is running. Start `make demo` in another terminal"
        ) from None
    return body


def _wallet(home: Path, building: dict[str, Any]) -> Wallet:
    """The phone in `home`; a new one is issued a credential by the demo's authority."""
    roots = x509.load_pem_x509_certificates(str(building["reader_root"]).encode())
    issuer = Path(building["authority"])
    mark = home / "issued-by"
    if mark.exists() and mark.read_text() == str(issuer):
        return Wallet.load(home)
    history = Wallet.load(home).history if (home / "reader-roots.pem").exists() else []
    for old in (*home.glob("credential-*"), *home.glob("pass-*")):
        old.unlink()
    authority, now = Authority(issuer, os.urandom), SystemClock().now()
    words = building["words"]
    person = canary_person(
        os.urandom, agency_code=words["1741000"], card_type=words["staff"], access_class=words["general"]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    credential, _ = authority.issue(key.public_key(), person, now=now)
    card, _ = authority.issue_pass(person, now=now)
    wallet = Wallet([Held(credential, key)], [card], roots, history)
    wallet.save(home)
    mark.write_text(str(issuer))
    print("새 신분증을 발급받았습니다\nA new credential was issued to this phone")
    return wallet


def _ask(question: Question) -> bool:
    who = question.reader or "알 수 없는 판독기 (an unknown reader)"
    print(f"\n┌ {who}")
    print(f"│ 다음을 요청합니다 asks for ({question.doc_type})")
    for elements in question.elements.values():
        for element in elements:
            print(f"│   · {ELEMENTS.get(element, element)}")
    print("└ 저장하지 않는다고 합니다 says it keeps nothing")
    if question.reader is None:
        print("! 판독기를 확인할 수 없어 보내지 않습니다\n! The reader cannot be verified; nothing is sent")
        return False
    return input("보낼까요? Share? [y/N] ").strip().lower() in YES


async def _present(options: argparse.Namespace, wallet: Wallet, building: dict[str, Any]) -> None:
    lanes = building["lanes"]
    if options.lane not in lanes:
        names = ", ".join(lanes)
        raise ControlError(f"통로 이름은 {names} 중 하나입니다\nThe lane is one of {names}")
    lane = lanes[options.lane]
    phone = Phone(wallet, SystemClock(), consent=(lambda _: True) if options.yes else _ask)
    async with RemoteScreen(Path(building["control"]), options.lane) as screen:
        if options.carrier == "nfc":
            await phone.by_nfc(int(lane["nfc_port"]), wait=15.0)
        elif options.carrier == "tap":
            await phone.by_tap(int(lane["nfc_port"]), str(building["hci"]), wait=15.0)
        elif options.carrier in ("qr", "qr-connect"):
            await phone.by_ble(str(building["hci"]), screen, connects=options.carrier == "qr-connect")
        elif options.carrier == "walk-up":
            await _walk_up(options, phone, building, screen)
        else:

            async def hold() -> None:
                await screen.sign(MAX_AGE.total_seconds())

            await phone.by_pass(screen, str(lane["entrance_group"]), hold=hold, challenge=options.challenge)
        sign = await screen.sign(5.0)
        print(sign or "표시등이 바뀌지 않았습니다\nThe lane's display did not change")
        await screen.walk()


async def _walk_up(options: argparse.Namespace, phone: Phone, building: dict[str, Any], screen: RemoteScreen) -> None:
    """Armed by hand, then one step into the entry beam."""
    group = str(building["lanes"][options.lane]["entrance_group"])
    if not options.yes:
        print(f"\n{group}에 한 번, 60초 동안 제출하도록 허락합니다\nArms one presentation to {group}, for 60 seconds")
        print(*(f"  · {ELEMENTS[element]}" for element in ARMED), sep="\n")
        answer = await asyncio.to_thread(input, "허락할까요? Arm? [y/N] ")
        if answer.strip().lower() not in YES:
            return
    await screen.stand()
    if not await phone.walk_up(str(building["hci"]), group, ARMED):
        await screen.stand(False)
        print("게이트가 묻지 않았습니다\nNo gate asked")


def _history(home: Path) -> None:
    try:
        history = Wallet.load(home).history
    except FileNotFoundError:
        history = []
    for line in history:
        shared = ", ".join(element for elements in line["shared"].values() for element in elements)
        print(f"{line['time']}  {line['carrier']:<4} {line['reader'] or '?'}  {line['outcome']}  {shared}")
    if not history:
        print("아직 이력이 없습니다\nNo history yet")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gwanmun phone", description="실행 중인 데모의 휴대전화가 됩니다. (Be a phone at the running demo.)"
    )
    parser.add_argument("--home", type=Path, default=HOME, help="휴대전화의 저장소 (the phone's storage)")
    parser.add_argument("--building", type=Path, default=STATE, help="데모의 작업 디렉터리 (the demo's directory)")
    commands = parser.add_subparsers(dest="command", required=True)
    present = commands.add_parser("present", help="통로에 제시 (present at a lane)")
    present.add_argument(
        "--carrier",
        choices=("qr", "qr-connect", "nfc", "tap", "walk-up", "pass"),
        default="qr",
        help="qr: QR로 연결해 블루투스로, qr-connect: 휴대전화가 연결해 옴, tap: 댄 뒤 블루투스로, "
        "walk-up: 미리 허락하고 다가섬, pass: 한 번 쓰는 QR 패스 (qr: QR then BLE; qr-connect: the phone connects; "
        "tap: NFC, then BLE; walk-up: armed beforehand; pass: one-shot QR pass)",
    )
    present.add_argument("--lane", default="lane-1", help="통로 (lane)")
    present.add_argument("--challenge", help="표시등의 숫자, pass에만 (digits on the lane's sign, for a pass)")
    present.add_argument("--yes", action="store_true", help="묻지 않고 동의 (consent without asking)")
    commands.add_parser("history", help="이용 이력, 여기에만 있습니다 (usage history; it exists only here)")
    options = parser.parse_args(argv)
    try:
        if options.command == "history":
            _history(options.home)
        else:
            building = _building(options.building)
            asyncio.run(_present(options, _wallet(options.home, building), building))
    except ControlError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, TimeoutError) as error:
        print(f"오류 (error): {type(error).__name__} {error}", file=sys.stderr)
        return 1
    return 0
