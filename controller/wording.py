"""What the page calls things, Korean and English, with the sign that goes with each: never a colour alone.

Reasons have their wording in policy.reasons; tests hold that every event and every state has a row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controller.alarm_kinds import Severity
from controller.alarm_rows import ACKNOWLEDGED, CLEARED, RAISED
from policy.reasons import WORDING as REASONS
from policy.reasons import Reason
from policy.situation import ClockQuality
from protocol.events import Kind
from protocol.status import LaneState

LANGUAGES = ("ko", "en")


class Tone(StrEnum):
    """How a row is drawn; the sign says the same without colour."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    CALM = "calm"


@dataclass(frozen=True, slots=True)
class Label:
    sign: str
    tone: Tone
    ko: str
    en: str

    def text(self, language: str) -> str:
        return self.ko if language == "ko" else self.en


KINDS: dict[str, Label] = {
    Kind.GATE_BOOT: Label("▶", Tone.CALM, "게이트 시작", "Gate started"),
    Kind.GATE_STOPPED: Label("■", Tone.WARN, "게이트 정지", "Gate stopped"),
    Kind.ACCESS_GRANTED: Label("✓", Tone.GOOD, "출입 허가", "Granted"),
    Kind.ACCESS_DENIED: Label("✕", Tone.BAD, "출입 거부", "Denied"),
    Kind.ACCESS_UNREADABLE: Label("?", Tone.WARN, "읽을 수 없음", "Unreadable"),
    Kind.LANE_OPENED: Label("↦", Tone.CALM, "통로 열림", "Lane opened"),
    Kind.LANE_FAULT: Label("⚠", Tone.BAD, "통로 고장", "Lane fault"),
    Kind.PASSAGE_COMPLETED: Label("→", Tone.GOOD, "통과 완료", "Passed"),
    Kind.PASSAGE_NOT_TAKEN: Label("○", Tone.CALM, "통과하지 않음", "Not taken"),
    Kind.PASSAGE_UNKNOWN: Label("?", Tone.WARN, "통과 여부 모름", "Passage unknown"),
    Kind.PASSAGE_REVERSED: Label("↩", Tone.CALM, "되돌아감", "Went back"),
    Kind.EGRESS_BUTTON: Label("←", Tone.CALM, "나가는 문 열림", "Opened to leave"),
    Kind.ALARM_FORCED: Label("⚠", Tone.BAD, "강제 진입 경보", "Forced entry"),
    Kind.ALARM_FORCED_CLEARED: Label("✓", Tone.CALM, "강제 진입 해제", "Forced entry cleared"),
    Kind.ALARM_CRAWL: Label("⚠", Tone.BAD, "기어서 진입 경보", "Crawled under"),
    Kind.ALARM_CRAWL_CLEARED: Label("✓", Tone.CALM, "기어서 진입 해제", "Crawling cleared"),
    Kind.ALARM_WRONG_WAY: Label("⚠", Tone.BAD, "역방향 진입 경보", "Wrong way"),
    Kind.ALARM_WRONG_WAY_CLEARED: Label("✓", Tone.CALM, "역방향 진입 해제", "Wrong way cleared"),
    Kind.ALARM_TAILGATE: Label("⚠", Tone.BAD, "뒤따라 진입 경보", "Tailgating"),
    Kind.ALARM_TAILGATE_CLEARED: Label("✓", Tone.CALM, "뒤따라 진입 해제", "Tailgating cleared"),
    Kind.ALARM_LOITER: Label("⚠", Tone.WARN, "통로 앞 머무름", "Loitering"),
    Kind.ALARM_LOITER_CLEARED: Label("✓", Tone.CALM, "머무름 해제", "Loitering cleared"),
    Kind.ALARM_HELD_PRE: Label("⚠", Tone.WARN, "통로 막힘 주의", "Held open, warning"),
    Kind.ALARM_HELD: Label("⚠", Tone.BAD, "통로 막힘 경보", "Held open"),
    Kind.ALARM_HELD_CLEARED: Label("✓", Tone.CALM, "통로 막힘 해제", "Held open cleared"),
    Kind.ALARM_TAMPER: Label("⚠", Tone.BAD, "훼손 감지 경보", "Tamper"),
    Kind.ALARM_TAMPER_CLEARED: Label("✓", Tone.CALM, "훼손 감지 해제", "Tamper cleared"),
    Kind.POWER_MAINS_LOST: Label("⚠", Tone.WARN, "정전, 배터리 사용", "Mains lost, on battery"),
    Kind.POWER_MAINS_RESTORED: Label("✓", Tone.CALM, "전원 복구", "Mains restored"),
    Kind.POWER_BATTERY_LOW: Label("⚠", Tone.BAD, "배터리 부족", "Battery low"),
    Kind.POWER_BATTERY_RESTORED: Label("✓", Tone.CALM, "배터리 회복", "Battery restored"),
    Kind.DOOR_OPENED: Label("◧", Tone.CALM, "문 열림", "Door open"),
    Kind.DOOR_CLOSED: Label("▣", Tone.CALM, "문 닫힘", "Door closed"),
    Kind.DOOR_MODE: Label("⇄", Tone.WARN, "운영 방식 변경", "Mode changed"),
    Kind.FIRE_ASSERTED: Label("⚠", Tone.BAD, "화재 개방", "Fire, opened"),
    Kind.FIRE_CLEARED: Label("✓", Tone.CALM, "화재 개방 해제", "Fire cleared"),
    Kind.LOCKDOWN_ENTERED: Label("⊘", Tone.BAD, "봉쇄 시작", "Lockdown entered"),
    Kind.LOCKDOWN_RELEASED: Label("✓", Tone.CALM, "봉쇄 해제", "Lockdown released"),
    Kind.COMMAND_ACCEPTED: Label("✓", Tone.CALM, "명령 수행", "Command accepted"),
    Kind.COMMAND_REFUSED: Label("✕", Tone.WARN, "명령 거부", "Command refused"),
    Kind.SENSOR_FAULT: Label("⚠", Tone.WARN, "감지기 이상", "Sensor fault"),
    Kind.SENSOR_RESTORED: Label("✓", Tone.CALM, "감지기 복구", "Sensor restored"),
    Kind.ESCORT_BOUND: Label("✓", Tone.CALM, "동행 확인", "Escort bound"),
    Kind.ANTIPASSBACK_SOFT: Label("⚠", Tone.WARN, "재진입 주의", "Anti-passback, soft"),
    Kind.ANTIPASSBACK_FORGIVEN: Label("✓", Tone.CALM, "재진입 허용", "Anti-passback forgiven"),
    Kind.CLOCK_CHANGED: Label("◷", Tone.WARN, "시계 상태 변경", "Clock changed"),
    Kind.DEVICE_DEGRADED: Label("⚠", Tone.WARN, "장치 이상", "Device degraded"),
    Kind.DEVICE_RESTORED: Label("✓", Tone.CALM, "장치 복구", "Device restored"),
    Kind.TRUST_APPLIED: Label("✓", Tone.CALM, "신뢰 목록 적용", "Trust data applied"),
    Kind.TRUST_REJECTED: Label("⚠", Tone.BAD, "신뢰 목록 거부", "Trust data rejected"),
    Kind.ALARM_UPLINK: Label("⚠", Tone.BAD, "전송 경보", "Uplink alarm"),
    Kind.ALARM_UPLINK_CLEARED: Label("✓", Tone.CALM, "전송 경보 해제", "Uplink alarm cleared"),
    Kind.LOG_GAP: Label("⚠", Tone.BAD, "기록 누락", "Gap in the log"),
    Kind.JOURNAL_CHECKPOINT: Label("✎", Tone.CALM, "기록 서명", "Journal signed"),
    Kind.JOURNAL_PRUNED: Label("✂", Tone.CALM, "지난 기록 삭제", "Old records removed"),
}
UNKNOWN_KIND = Label("?", Tone.WARN, "모르는 이벤트", "Unknown event")
"""Of a gate whose software is newer than this."""
STATES: dict[LaneState, Label] = {
    LaneState.UNKNOWN: Label("?", Tone.WARN, "모름", "Unknown"),
    LaneState.BOOT: Label("…", Tone.WARN, "시작 중", "Starting"),
    LaneState.SECURED: Label("■", Tone.CALM, "닫힘", "Secured"),
    LaneState.GRANTED: Label("✓", Tone.GOOD, "열림, 대기", "Open, waiting"),
    LaneState.PASSING: Label("→", Tone.GOOD, "통과 중", "Passing"),
    LaneState.EGRESS: Label("←", Tone.GOOD, "나가는 중", "Leaving"),
    LaneState.HELD: Label("⚠", Tone.BAD, "통로 막힘", "Held open"),
    LaneState.INTRUSION: Label("⚠", Tone.BAD, "침입 경보", "Intrusion"),
    LaneState.LOCKED_OPEN: Label("⚠", Tone.WARN, "화재 개방", "Fire, open"),
    LaneState.FREE: Label("⇄", Tone.WARN, "자유 통행", "Free"),
    LaneState.LOCKED_DOWN: Label("⊘", Tone.BAD, "봉쇄", "Locked down"),
    LaneState.OUT_OF_SERVICE: Label("✕", Tone.BAD, "사용 중지", "Out of service"),
}
CLOCKS: dict[ClockQuality, Label] = {
    ClockQuality.SYNCED: Label("✓", Tone.CALM, "동기", "Synced"),
    ClockQuality.HOLDOVER: Label("⚠", Tone.WARN, "유지 중", "Holdover"),
    ClockQuality.UNSET: Label("✕", Tone.BAD, "맞지 않음", "Unset"),
}
ONLINE = {
    True: Label("●", Tone.GOOD, "연결됨", "Online"),
    False: Label("✕", Tone.BAD, "끊김", "Offline"),
    None: Label("?", Tone.WARN, "모름", "Unknown"),
}
SEVERITIES: dict[str, Label] = {
    Severity.CRITICAL: Label("‼", Tone.BAD, "위급", "Critical"),
    Severity.MAJOR: Label("⚠", Tone.BAD, "중대", "Major"),
    Severity.MINOR: Label("△", Tone.WARN, "경미", "Minor"),
    Severity.WARNING: Label("○", Tone.WARN, "주의", "Warning"),
}
ALARM_STATES: dict[str, Label] = {
    RAISED: Label("●", Tone.BAD, "진행 중, 미확인", "Going on, not acknowledged"),
    ACKNOWLEDGED: Label("◐", Tone.WARN, "진행 중, 확인됨", "Going on, acknowledged"),
    CLEARED: Label("○", Tone.WARN, "끝남, 미확인", "Over, not acknowledged"),
}
CARRIERS = {"ble": "BLE", "nfc": "NFC", "qr": "QR", "walk_up": "다가섬", "piv": "카드", "pkoc": "PKOC"}
DIRECTIONS = {"in": ("입", "In"), "out": ("출", "Out")}
TEXTS: dict[str, tuple[str, str]] = {
    "title": ("관문 출입 현황", "Gwanmun live view"),
    "skip": ("본문으로 건너뛰기", "Skip to content"),
    "summary": ("오늘", "Today"),
    "granted": ("오늘 허가", "Granted today"),
    "denied": ("오늘 거부", "Denied today"),
    "unreadable": ("오늘 읽을 수 없음", "Unreadable today"),
    "gates_online": ("연결된 게이트", "Gates online"),
    "set_aside": ("격리된 메시지", "Messages set aside"),
    "lanes": ("통로", "Lanes"),
    "no_lanes": ("아직 보고한 통로가 없습니다.", "No lane has reported yet."),
    "gates": ("게이트", "Gates"),
    "no_gates": ("아직 연결된 게이트가 없습니다.", "No gate has connected yet."),
    "events": ("최근 이벤트", "Last events"),
    "no_events": ("아직 이벤트가 없습니다.", "No events yet."),
    "time": ("시각", "Time"),
    "gate": ("게이트", "Gate"),
    "lane": ("통로", "Lane"),
    "event": ("이벤트", "Event"),
    "reason": ("사유", "Reason"),
    "carrier": ("수단", "Carrier"),
    "duration": ("처리", "Took"),
    "uplink": ("연결", "Uplink"),
    "outbox": ("미전송", "Outbox"),
    "clock": ("시계", "Clock"),
    "trust": ("신뢰 목록", "Trust data"),
    "records": ("확인된 기록", "Records held"),
    "degraded": ("이상", "Degraded"),
    "boot": ("부팅", "Boot"),
    "last_seen": ("마지막 수신", "Last seen"),
    "none": ("없음", "None"),
    "last_decision": ("마지막 판정", "Last decision"),
    "alarms": ("경보", "Alarms"),
    "no_alarms": ("열린 경보가 없습니다.", "No alarm is open."),
    "more_alarms": ("그 밖에 {n}건", "{n} more"),
    "escalated": ("시간 안에 확인되지 않음", "Not acknowledged in time"),
    "controller": ("관제 서버", "Controller"),
    "broker_down": (
        "브로커에 연결되지 않음. 화면이 최신이 아닐 수 있습니다.",
        "No connection to the broker. This view may be old.",
    ),
    "store_down": ("저장소에 쓸 수 없음", "The store cannot write"),
    "live_on": ("실시간", "Live"),
    "live_off": ("연결이 끊겨 다시 연결하는 중", "Connection lost, reconnecting"),
    "other_language": ("English", "한국어"),
    "no_script": (
        "실시간 갱신에는 JavaScript가 필요합니다. 새로 고침하면 최신 내용이 보입니다.",
        "Live updates need JavaScript. Reload to see the newest.",
    ),
    "times": ("시각은 {zone} 기준입니다.", "Times are {zone}."),
}


def text(key: str, language: str) -> str:
    return TEXTS[key][LANGUAGES.index(language)]


def reason(code: object, language: str) -> str:
    """Wording of a refusal reason; empty for none, the bare word for one this version does not know."""
    if not isinstance(code, str):
        return ""
    try:
        wording = REASONS[Reason(code)]
    except ValueError:
        return code[:64]
    return wording.ko if language == "ko" else wording.en
