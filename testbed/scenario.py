"""The fixed scenario of `make demo ARGS=--scripted`: who presents what where, and how it has to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from drivers.ports import Direction, LaneSignal
from gate_agent import guard_cli
from policy.reasons import Reason
from protocol.events import Kind
from testbed.building import Building, LaneRig
from testbed.card.card import Card
from testbed.card.field import present_by_nfc
from testbed.people import SECURE, Crowd
from testbed.phone.faulty import AlteringPhone, ReplayingPhone, SlowPhone, VanishingPhone, WrongDocumentPhone
from testbed.phone.phone import Phone

GRANTED = "granted"
ELEMENTS = ("agency_code", "card_type", "access_class", "holder_handle")
"""What people of the demo arm their phones for."""
REPEAT_PAUSE_S = 3.0
"""A gate takes a code for the same presentation while it is held; after this long it is shown anew."""

Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One presentation: what the person does, and how it has to end (`granted` or a refusal reason)."""

    ko: str
    en: str
    lane: str
    act: Act
    expected: str
    walks: bool = True
    """A granted person walks through; False: the scenario itself goes on from the open lane."""


class IncidentError(Exception):
    """What was to happen to the building did not."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens to the building between two presentations."""

    ko: str
    en: str
    act: Act


Step = Attempt | Incident


class Script:
    """Ways to present, and the steps of the fixed scenario."""

    def __init__(self, building: Building, crowd: Crowd, decided: Callable[[], Awaitable[None]]) -> None:
        self._building, self._crowd, self._decided = building, crowd, decided

    def _lane(self, name: str) -> LaneRig:
        return self._building.lanes[name]

    def qr_ble(self, phone: Phone, lane: str = "lane-1", *, connects: bool = False) -> Act:
        """`connects`: the phone finds the gate and connects, instead of the other way round."""
        return lambda: phone.by_ble(self._building.hci, self._lane(lane).camera, connects=connects)

    def tap(self, phone: Phone, lane: str = "lane-1") -> Act:
        return lambda: phone.by_tap(self._lane(lane).nfc_port, self._building.hci)

    def walk_up(self, phone: Phone, lane: str = "lane-1") -> Act:
        """Armed beforehand; the person steps into the lane's entry beam."""

        async def act() -> None:
            rig = self._lane(lane)
            rig.turnstile.stand(rig.direction)
            if not await phone.walk_up(self._building.hci, rig.entrance_group, ELEMENTS):
                raise IncidentError("nobody asked the armed phone")

        return act

    def nfc(self, phone: Phone, lane: str = "lane-1") -> Act:
        return lambda: phone.by_nfc(self._lane(lane).nfc_port)

    def plastic(self, card: Card, lane: str = "lane-1") -> Act:
        """Held to the reader until it lets go."""

        async def act() -> None:
            await asyncio.to_thread(present_by_nfc, card, self._lane(lane).nfc_port)

        return act

    def qr_pass(self, phone: Phone, lane: str = "lane-1", audience: str | None = None) -> Act:
        async def act() -> None:
            rig = self._lane(lane)
            await phone.by_pass(rig.camera, audience or rig.entrance_group, hold=self._decided)

        return act

    def show(self, text: Callable[[], str], lane: str = "lane-1") -> Act:
        async def act() -> None:
            camera = self._lane(lane).camera
            await camera.show(text())
            try:
                await self._decided()
            finally:
                await camera.clear()

        return act

    def steps(self) -> Iterator[Step]:
        crowd = self._crowd
        staff, secure = crowd.phone(), crowd.phone(crowd.person(access_class=SECURE))
        yield Attempt("직원, QR로 연결해 블루투스로 제출", "staff, QR then BLE", "lane-1", self.qr_ble(staff), GRANTED)
        yield Attempt(
            "직원, QR을 보이고 휴대전화가 연결해 옴",
            "staff, QR, then the phone connects",
            "lane-1",
            self.qr_ble(staff, connects=True),
            GRANTED,
        )
        yield Attempt("직원, NFC", "staff, NFC", "lane-1", self.nfc(staff), GRANTED)
        yield Attempt(
            "직원, 댄 뒤 휴대전화가 연결해 옴",
            "staff, tap, then the phone connects",
            "lane-1",
            self.tap(staff),
            GRANTED,
        )
        yield Attempt("직원, 미리 허락하고 다가섬", "staff, armed, walks up", "lane-1", self.walk_up(staff), GRANTED)
        yield self._steps_back()
        yield Attempt("직원, 플라스틱 카드", "staff, plastic card", "lane-1", self.plastic(crowd.card()), GRANTED)
        yield Attempt(
            "복제된 카드(키가 다름)",
            "cloned card, another key",
            "lane-1",
            self.plastic(crowd.cloned_card()),
            Reason.WRONG_SESSION,
        )
        yield Attempt("직원, QR 패스", "staff, QR pass", "lane-1", self.qr_pass(staff), GRANTED)
        yield Attempt(
            "보안구역 담당, NFC", "cleared for the server room", "lane-2", self.nfc(secure, "lane-2"), GRANTED
        )
        yield Attempt(
            "보안구역 권한 없음", "not cleared for it", "lane-2", self.nfc(staff, "lane-2"), Reason.NO_RIGHT_ZONE
        )
        yield Attempt(
            "보안구역, 다른 기관",
            "cleared, of another agency",
            "lane-2",
            self.qr_ble(crowd.phone(crowd.person(access_class=SECURE, agency_code="1270000")), "lane-2"),
            Reason.AGENCY,
        )
        contractor = crowd.phone(crowd.person(card_type="contractor"))
        yield Attempt(
            "협력업체, 출입 시간 밖",
            "contractor, outside hours",
            "lane-1",
            self.nfc(contractor),
            Reason.OUTSIDE_SCHEDULE,
        )
        yield Attempt("만료", "expired", "lane-1", self.nfc(crowd.expired()), Reason.EXPIRED)
        yield Attempt(
            "유효기간 전", "not yet valid", "lane-1", self.qr_ble(crowd.not_yet_valid()), Reason.NOT_YET_VALID
        )
        stranger = crowd.phone(authority=self._building.stranger)
        yield Attempt("모르는 발급기관", "untrusted issuer", "lane-1", self.nfc(stranger), Reason.UNKNOWN_ISSUER)
        yield Attempt(
            "모르는 발급기관의 QR 패스", "QR pass of it", "lane-1", self.qr_pass(stranger), Reason.UNKNOWN_ISSUER
        )
        yield Attempt(
            "출입 등급 위조", "altered element", "lane-1", self.qr_ble(crowd.phone(kind=AlteringPhone)), Reason.ALTERED
        )
        yield Attempt(
            "다른 문서 종류",
            "wrong document type",
            "lane-1",
            self.nfc(crowd.licence_phone(WrongDocumentPhone)),
            Reason.WRONG_DOCUMENT_TYPE,
        )
        yield Attempt(
            "다른 연결의 서명",
            "device signature of another session",
            "lane-1",
            self.nfc(crowd.phone(kind=ReplayingPhone)),
            Reason.WRONG_SESSION,
        )
        yield Attempt(
            "본인이 거절",
            "holder said no",
            "lane-1",
            self.qr_ble(crowd.phone(consent=lambda _: False)),
            Reason.HOLDER_DECLINED,
        )
        yield Attempt(
            "제출 중 사라진 휴대전화",
            "phone vanishes mid-session",
            "lane-1",
            self.qr_ble(crowd.phone(kind=VanishingPhone)),
            Reason.LINK_LOST,
        )
        yield Attempt(
            "연결해 온 뒤 사라진 휴대전화",
            "phone that connected vanishes",
            "lane-1",
            self.qr_ble(crowd.phone(kind=VanishingPhone), connects=True),
            Reason.LINK_LOST,
        )
        yield Attempt(
            "엉뚱한 QR", "garbage in the QR", "lane-1", self.show(lambda: "HTTPS://EXAMPLE.INVALID/"), Reason.UNREADABLE
        )
        yield Attempt(
            "다른 출입구의 QR 패스",
            "QR pass for another entrance",
            "lane-1",
            self.qr_pass(staff, audience="daejeon-lobby"),
            Reason.WRONG_AUDIENCE,
        )
        yield from self._passages(staff)
        yield from self._lockdown(staff)
        yield from self._fire(staff)
        yield from self._replay(staff)
        yield from self._revocation()
        yield from self._without_broker(staff)
        yield from self._killed(staff)

    def _steps_back(self) -> Attempt:
        """An armed phone answers when its holder has left the beam again."""
        rig = self._lane("lane-1")
        phone = self._crowd.phone(kind=SlowPhone)
        assert isinstance(phone, SlowPhone)  # noqa: S101  what was asked for
        phone.meanwhile = lambda: rig.turnstile.stand(rig.direction, False)
        return Attempt("다가섰다가 물러남", "armed, steps back", "lane-1", self.walk_up(phone), Reason.NOT_AT_LANE)

    def _happens(self, ko: str, en: str, act: Act, *kinds: Kind) -> Incident:
        """An incident that has to bring these events, in any order."""

        async def act_and_see() -> None:
            journal = self._building.journal
            after = journal.last()
            await act()
            for kind in kinds:
                await journal.wait_for(lambda event, kind=kind: event.kind is kind, after=after, timeout=10)  # type: ignore[misc]  # lambda default

        return Incident(ko, en, act_and_see)

    def _passages(self, staff: Phone) -> Iterator[Step]:
        turnstile = self._lane("lane-1").turnstile
        yield self._happens(
            "한 사람이 신분증 없이 나감",
            "somebody leaves, no credential asked",
            lambda: _done(turnstile.leave()),
            Kind.EGRESS_BUTTON,
            Kind.PASSAGE_COMPLETED,
        )
        yield Attempt(
            "직원, 뒤에 한 사람이 바짝 붙음",
            "staff, somebody close behind",
            "lane-1",
            self.nfc(staff),
            GRANTED,
            walks=False,
        )
        yield self._happens(
            "두 사람이 한 번에 들어옴",
            "two walk in on one opening",
            lambda: turnstile.walk_followed(Direction.IN),
            Kind.ALARM_TAILGATE,
            Kind.PASSAGE_COMPLETED,
            Kind.ALARM_TAILGATE_CLEARED,
        )
        yield self._happens(
            "차단기를 밀고 들어옴",
            "somebody pushes through the barrier",
            lambda: turnstile.force(Direction.IN),
            Kind.ALARM_FORCED,
            Kind.ALARM_FORCED_CLEARED,
        )

    def _lockdown(self, staff: Phone) -> Iterator[Step]:
        rig = self._lane("lane-1")
        yield self._happens(
            "경비원이 봉쇄함", "the guard locks down", lambda: self._order("lockdown"), Kind.LOCKDOWN_ENTERED
        )
        yield Attempt("봉쇄 중 직원", "staff, during the lockdown", "lane-1", self.nfc(staff), Reason.LOCKDOWN)
        yield self._happens(
            "봉쇄 중에도 나갈 수 있음",
            "the way out stays free",
            lambda: _done(rig.turnstile.leave()),
            Kind.PASSAGE_COMPLETED,
        )
        yield self._happens(
            "경비원이 봉쇄를 해제함", "the guard releases", lambda: self._order("release"), Kind.LOCKDOWN_RELEASED
        )

    def _fire(self, staff: Phone) -> Iterator[Step]:
        turnstile = self._lane("lane-1").turnstile

        async def fire() -> None:
            turnstile.set(LaneSignal.FIRE, True)
            await turnstile.leave()

        async def reset() -> None:
            turnstile.set(LaneSignal.FIRE, False)
            turnstile.set(LaneSignal.RESET, True)
            turnstile.set(LaneSignal.RESET, False)

        yield self._happens(
            "화재 신호: 통로가 열리고 한 사람이 나감",
            "fire: the lane is open, somebody leaves",
            fire,
            Kind.FIRE_ASSERTED,
            Kind.PASSAGE_COMPLETED,
        )
        yield self._happens("현장에서 되돌림", "reset on the spot", reset, Kind.FIRE_CLEARED)
        yield Attempt("화재 뒤 직원", "staff, after the fire", "lane-1", self.nfc(staff), GRANTED)

    async def _order(self, verb: str) -> None:
        """As `gwanmun guard VERB` on the gate."""
        answer = await asyncio.to_thread(guard_cli.ask, self._building.guard_socket, {"verb": verb, "lane": "*"})
        if any(why is not None for why in answer["results"].values()):
            raise IncidentError(f"{verb}: {answer}")

    def _replay(self, staff: Phone) -> Iterator[Step]:
        camera = self._lane("lane-1").camera
        filmed: list[str] = []

        async def film() -> None:
            filmed.append(await staff.by_pass(camera, self._lane("lane-1").entrance_group, hold=self._decided))

        yield Attempt("QR 패스, 누가 촬영함", "QR pass, filmed by somebody", "lane-1", film, GRANTED)

        async def wait() -> None:
            await asyncio.sleep(REPEAT_PAUSE_S)

        yield Incident("촬영한 사람이 다가옴", "the one who filmed it comes up", wait)
        yield Attempt(
            "촬영된 QR 패스 재사용", "replayed QR pass", "lane-1", self.show(lambda: filmed[0]), Reason.REPLAYED
        )

    def _revocation(self) -> Iterator[Step]:
        phone = self._crowd.phone()
        credential, card = self._crowd.last_index, self._crowd.last_pass_index
        yield Attempt("곧 폐지될 신분증", "soon to be revoked", "lane-1", self.nfc(phone), GRANTED)

        async def revoke() -> None:
            after = self._building.journal.last()
            for index in (credential, card):
                self._building.authority.revoke(index)
            self._building.publish()
            await self._building.journal.wait_for(
                lambda event: event.kind is Kind.TRUST_APPLIED, after=after, timeout=10
            )

        yield Incident("발급기관이 폐지하고 배포함", "the authority revokes and publishes", revoke)
        yield Attempt("폐지된 신분증", "revoked", "lane-1", self.nfc(phone), Reason.REVOKED)
        yield Attempt("폐지된 QR 패스", "revoked QR pass", "lane-1", self.qr_pass(phone), Reason.REVOKED)

    def _without_broker(self, staff: Phone) -> Iterator[Step]:
        async def stop() -> None:
            await asyncio.to_thread(self._building.broker.stop)

        async def start() -> None:
            await asyncio.to_thread(self._building.broker.start)

        yield Incident("브로커 정지: 게이트는 오프라인", "broker stopped: the gate is offline", stop)
        yield Attempt("오프라인, NFC", "offline, NFC", "lane-1", self.nfc(staff), GRANTED)
        yield Attempt("오프라인, QR+블루투스", "offline, QR then BLE", "lane-1", self.qr_ble(staff), GRANTED)
        yield Attempt("오프라인, 만료", "offline, expired", "lane-1", self.nfc(self._crowd.expired()), Reason.EXPIRED)
        yield Incident("브로커 재시작", "broker started again", start)

    def _killed(self, staff: Phone) -> Iterator[Step]:
        rig = self._lane("lane-1")
        yield Attempt(
            "열린 순간 에이전트 kill -9",
            "agent killed as the lane opens",
            "lane-1",
            self.nfc(staff),
            GRANTED,
            walks=False,
        )

        async def kill() -> None:
            await self._building.agent.kill()
            # The module's own timer brings the relay back to rest, with nobody there to ask for it.
            await rig.turnstile.until(lambda: not rig.turnstile.energised(Direction.IN), timeout=2.0)
            after = self._building.journal.last()
            rig.turnstile.shown = None
            self._building.lanes["lane-2"].turnstile.shown = None
            await self._building.start_agent()
            await self._building.journal.wait_for(
                lambda event: event.kind is Kind.PASSAGE_UNKNOWN, after=after, timeout=10
            )

        yield Incident(
            "릴레이는 스스로 복귀, 에이전트 재시작, 통과는 unknown으로 기록",
            "relay falls back by itself, agent restarts, the passage is recorded as unknown",
            kill,
        )
        yield Attempt("재시작 뒤 NFC", "after the restart, NFC", "lane-1", self.nfc(staff), GRANTED)
        yield Attempt("재시작 뒤 QR+블루투스", "after the restart, QR then BLE", "lane-1", self.qr_ble(staff), GRANTED)


async def _done(walk: Awaitable[bool]) -> None:
    """Wait for a walk. Raises IncidentError when the barrier stayed shut."""
    if not await walk:
        raise IncidentError("the barrier stayed shut")


def script(building: Building, crowd: Crowd, decided: Callable[[], Awaitable[None]]) -> Iterator[Step]:
    """`decided` waits until the attempt under way has its decision."""
    return Script(building, crowd, decided).steps()
