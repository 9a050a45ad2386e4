"""What a person at the lane sees, Korean and English. Refusals take their words from policy.reasons."""

from __future__ import annotations

from drivers.ports import Light, Message
from policy.reasons import WORDING, Reason

IDLE = Message(Light.IDLE, "모바일 공무원증을 보여 주세요", "Please present your mobile ID")
CONNECTING = Message(Light.WAIT, "연결하고 있습니다", "Connecting")
CONSENT = Message(Light.WAIT, "휴대전화에서 제출을 확인해 주세요", "Please confirm on your phone")
PASS = Message(Light.GREEN, "통과하세요", "Please pass")
ALARM = Message(Light.RED, "무단 출입이 감지되었습니다", "Unauthorised passage detected")
FIRE = Message(Light.GREEN, "비상 개방: 밖으로 나가 주세요", "Emergency release: please leave the building")
OUT_OF_SERVICE = Message(Light.FAULT, WORDING[Reason.OUT_OF_SERVICE].ko, WORDING[Reason.OUT_OF_SERVICE].en)


def idle(challenge: str) -> Message:
    """Idle, with the digits that a QR pass has to answer."""
    return Message(
        Light.IDLE, f"{IDLE.ko} (QR 패스 번호 {challenge})", f"{IDLE.en} (number for a QR pass: {challenge})"
    )


def refusal(reason: Reason) -> Message:
    words = WORDING[reason]
    return Message(Light.FAULT if reason is Reason.OUT_OF_SERVICE else Light.RED, words.ko, words.en)
