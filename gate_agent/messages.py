"""What a person at the lane sees and hears, Korean and English. Refusals take their words from policy.reasons.

docs/messages.md is made from it; the keys there name an agency's own recordings, so a key outlives a change of its words.
"""

from __future__ import annotations

from collections.abc import Mapping

from drivers.ports import Light, Message
from gate_agent.passage import State
from policy.reasons import WORDING, Reason

IDLE = Message(Light.IDLE, "모바일 공무원증을 보여 주세요", "Please present your mobile ID", "idle")
CONNECTING = Message(Light.WAIT, "연결하고 있습니다", "Connecting", "connecting")
CONSENT = Message(Light.WAIT, "휴대전화에서 제출을 확인해 주세요", "Please confirm on your phone", "consent")
UNLOCK = Message(
    Light.WAIT, "휴대전화 잠금을 풀고 신분증을 열어 주세요", "Unlock your phone and open your ID", "unlock"
)
TAP_AGAIN = Message(
    Light.WAIT, "휴대전화에서 확인한 뒤 다시 대 주세요", "Confirm on your phone, then tap again", "tap_again"
)
PASS = Message(Light.GREEN, "통과하세요", "Please pass", "pass")
ALARM = Message(Light.RED, "무단 출입이 감지되었습니다", "Unauthorised passage detected", "alarm")
FIRE = Message(Light.GREEN, "비상 개방: 밖으로 나가 주세요", "Emergency release: please leave the building", "fire")
OUT_OF_SERVICE = Message(
    Light.FAULT, WORDING[Reason.OUT_OF_SERVICE].ko, WORDING[Reason.OUT_OF_SERVICE].en, Reason.OUT_OF_SERVICE.value
)
OTHER_SIDE = Message(Light.WAIT, "맞은편에서 통과하고 있습니다", "Somebody is coming from the other side", "other_side")
FREE = Message(Light.GREEN, "자유롭게 통과하세요", "Open to all, please pass", "free")
SECOND_FACTOR = Message(
    Light.WAIT, "옆 단말을 바라봐 주세요", "Please look at the terminal beside you", "second_factor"
)
SECOND_PERSON = Message(Light.WAIT, "두 번째 사람도 제시해 주세요", "The second person, please", "second_person")
HELD = Message(Light.RED, "통로에서 나와 주세요", "Please clear the lane", "held")
LOCKED_DOWN = Message(Light.RED, "봉쇄 중입니다. 나가는 것만 가능합니다", "Lockdown: way out only", "locked_down")
BOOT = Message(Light.WAIT, "준비하고 있습니다", "Getting ready", "boot")

STANDING: Mapping[State, Message] = {
    State.BOOT: BOOT,
    State.SECURED: IDLE,
    State.GRANTED: PASS,
    State.PASSING: PASS,
    State.EGRESS: OTHER_SIDE,
    State.HELD: HELD,
    State.INTRUSION: ALARM,
    State.LOCKED_OPEN: FIRE,
    State.FREE: FREE,
    State.LOCKED_DOWN: LOCKED_DOWN,
    State.OUT_OF_SERVICE: OUT_OF_SERVICE,
}
"""What the sign of a lane says as long as nothing else is to be said."""


def idle(challenge: str) -> Message:
    """Idle, with the digits that a QR pass has to answer."""
    return Message(
        Light.IDLE,
        f"{IDLE.ko} (QR 패스 번호 {challenge})",
        f"{IDLE.en} (number for a QR pass: {challenge})",
        IDLE.key,
    )


def refusal(reason: Reason) -> Message:
    words = WORDING[reason]
    return Message(Light.FAULT if reason is Reason.OUT_OF_SERVICE else Light.RED, words.ko, words.en, reason.value)


GUIDANCE = (
    IDLE,
    CONNECTING,
    CONSENT,
    UNLOCK,
    TAP_AGAIN,
    SECOND_FACTOR,
    SECOND_PERSON,
    PASS,
    FREE,
    OTHER_SIDE,
    HELD,
    ALARM,
    FIRE,
    LOCKED_DOWN,
    BOOT,
)
"""What is said beside refusals, in the order in which a person may meet it."""
REFUSALS = tuple(refusal(reason) for reason in Reason)
