"""Words of the lane simulator in Korean and English; tests hold that every state, effect and kind of person has a row."""

from __future__ import annotations

from collections.abc import Mapping

from gate_agent.passage import Effect, Refusal, State
from gate_agent.passage.conditioning import Fault
from testbed.person import Kind

KINDS: Mapping[Kind, tuple[str, str]] = {
    Kind.WALK: ("걸어서 지나감", "walks through"),
    Kind.RUN: ("뛰어서, 닫혀 있어도 지나감", "runs, and through a closed barrier too"),
    Kind.HESITATE: ("머뭇거리다 지나감", "hesitates, then walks through"),
    Kind.TAILGATE: ("한 사람이 바짝 뒤따름", "a second one follows close behind"),
    Kind.CRAWL: ("바닥으로 기어감", "crawls along the floor"),
    Kind.WHEELCHAIR: ("휠체어", "a wheelchair"),
    Kind.TROLLEY: ("수레나 여행 가방을 끎", "pulls a trolley"),
    Kind.TURN_BACK: ("들어섰다가 되돌아감", "steps in and turns back"),
    Kind.TWO_AT_ONCE: ("두 사람이 나란히", "two side by side"),
    Kind.WRONG_WAY: ("반대쪽에서 들어옴", "somebody comes from the other side"),
    Kind.LOITER: ("통로 앞에 서 있음", "stands in the lane's mouth"),
}
STATES: Mapping[State, str] = {
    State.BOOT: "시작",
    State.SECURED: "닫힘",
    State.GRANTED: "허가됨",
    State.PASSING: "통과 중",
    State.EGRESS: "나가는 중",
    State.HELD: "통과가 길어짐",
    State.INTRUSION: "경보",
    State.LOCKED_OPEN: "화재 개방",
    State.FREE: "자유 통행",
    State.LOCKED_DOWN: "봉쇄",
    State.OUT_OF_SERVICE: "사용 중지",
}
"""The state's own word is the English one."""
EFFECTS: Mapping[Effect, tuple[str, str]] = {
    Effect.OPEN: ("문을 엶", "opens"),
    Effect.OPEN_OUT: ("나가는 쪽으로 엶", "opens outwards"),
    Effect.COMPLETED: ("통과 완료", "passed"),
    Effect.NOT_TAKEN: ("허가를 쓰지 않음", "grant not taken"),
    Effect.UNKNOWN: ("결과를 알 수 없음", "outcome unknown"),
    Effect.REVERSED: ("되돌아감", "went back"),
    Effect.EGRESS: ("허가 없이 나감", "leaves without a grant"),
    Effect.FORCED: ("강제 통과", "forced"),
    Effect.CRAWL: ("기어서 통과", "crawls"),
    Effect.WRONG_WAY: ("반대 방향", "wrong way"),
    Effect.TAILGATE: ("뒤따름", "tailgating"),
    Effect.LOITER: ("서성임", "loitering"),
    Effect.ALARMS_CLEARED: ("경보 해제", "alarm cleared"),
    Effect.HELD_PRE: ("통과가 길어짐: 예고", "held: warning"),
    Effect.HELD: ("통과가 길어짐: 경보", "held: alarm"),
    Effect.FIRE_ASSERTED: ("화재 신호", "fire"),
    Effect.FIRE_CLEARED: ("화재 해제", "fire cleared"),
    Effect.LOCKDOWN_ENTERED: ("봉쇄", "lockdown"),
    Effect.LOCKDOWN_RELEASED: ("봉쇄 해제", "lockdown released"),
    Effect.MODE: ("운영 방식 변경", "mode changed"),
    Effect.TAMPER: ("훼손 감지", "tamper"),
    Effect.TAMPER_CLEARED: ("훼손 감지 해제", "tamper cleared"),
    Effect.MAINS_LOST: ("정전", "mains lost"),
    Effect.MAINS_RESTORED: ("전원 복구", "mains restored"),
    Effect.BATTERY_LOW: ("배터리 부족", "battery low"),
    Effect.BATTERY_RESTORED: ("배터리 회복", "battery restored"),
}
FAULTS: Mapping[Fault | None, tuple[str, str]] = {
    Fault.STUCK: ("센서가 계속 켜져 있음", "sensor stuck"),
    Fault.CHATTER: ("센서가 떨림", "sensor chatters"),
    None: ("센서 회복", "sensor is back"),
}
REFUSALS: Mapping[Refusal, tuple[str, str]] = {
    Refusal.LANE_BUSY: ("통로가 쓰이는 중", "the lane is busy"),
    Refusal.LOCKDOWN: ("봉쇄", "lockdown"),
    Refusal.OUT_OF_SERVICE: ("사용 중지", "out of service"),
    Refusal.FIRE_ACTIVE: ("화재", "fire"),
    Refusal.RECORD_UNAVAILABLE: ("기록할 수 없음", "no record"),
    Refusal.NOTHING_TO_DO: ("할 일 없음", "nothing to do"),
}
