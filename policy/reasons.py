"""Why an attempt was refused: one reason each, the first that failed in this published order.

The order is the order of the table: the exchange, the verifier's checks, this site's rules (policy.decision.RULES), then the
lane and the record. Each row says what the display shows, what the guard sees, and what to do. docs/reasons.md is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """One word for an event's `reason`. Unreadable, unknown and known-but-denied are different reasons."""

    # The exchange with the phone.
    UNREADABLE = "unreadable"
    LINK_LOST = "link_lost"
    LINK_TIMEOUT = "link_timeout"
    HOLDER_DECLINED = "holder_declined"
    SESSION_ERROR = "session_error"
    MALFORMED = "malformed"
    # The verifier (mdoc.verify), in its own published order. What proves a bad credential comes before what is only too old.
    UNKNOWN_ISSUER = "unknown_issuer"
    ISSUER_LIST_STALE = "issuer_list_stale"
    BAD_CERTIFICATE = "bad_certificate"
    SIGNER_REVOKED = "signer_revoked"
    CRL_STALE = "crl_stale"
    BAD_SIGNATURE = "bad_signature"
    WRONG_DOCUMENT_TYPE = "wrong_document_type"
    ALTERED = "altered"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_SESSION = "wrong_session"
    STATUS_UNKNOWN = "status_unknown"
    REVOKED = "revoked"
    STATUS_STALE = "status_stale"
    MISSING_ELEMENT = "missing_element"
    WRONG_AUDIENCE = "wrong_audience"
    STALE = "stale"
    REPLAYED = "replayed"
    # This site's rules (policy.decision).
    DENIED_LIST = "denied_list"
    CLOCK_UNSET = "clock_unset"
    CLOCK_STALE = "clock_stale"
    LOCKDOWN = "lockdown"
    ISSUER_NOT_ACCEPTED = "issuer_not_accepted"
    NO_RIGHT_ZONE = "no_right_zone"
    AGENCY = "agency"
    CARD_TYPE = "card_type"
    NO_RIGHT_POINT = "no_right_point"
    HOLIDAY = "holiday"
    OUTSIDE_SCHEDULE = "outside_schedule"
    CARRIER_NOT_ALLOWED = "carrier_not_allowed"
    VISIT_MISSING = "visit_missing"
    VISIT_OTHER_ZONE = "visit_other_zone"
    VISIT_NOT_YET = "visit_not_yet"
    VISIT_OVER = "visit_over"
    ESCORT_MISSING = "escort_missing"
    WRONG_ESCORT = "wrong_escort"
    OCCUPANCY_UPPER = "occupancy_upper"
    ANTIPASSBACK_HARD = "antipassback_hard"
    ANTIPASSBACK_TIMED = "antipassback_timed"
    ANTIPASSBACK_CUT_OFF = "antipassback_cut_off"
    ANTIPASSBACK_NO_HANDLE = "antipassback_no_handle"
    SECOND_FACTOR_MISSING = "second_factor_missing"
    SECOND_FACTOR_FAILED = "second_factor_failed"
    SECOND_FACTOR_TIMEOUT = "second_factor_timeout"
    SECOND_PERSON_MISSING = "second_person_missing"
    # The lane and the record.
    FIRE_ACTIVE = "fire_active"
    OUT_OF_SERVICE = "out_of_service"
    LANE_BUSY = "lane_busy"
    NOT_AT_LANE = "not_at_lane"
    RECORD_UNAVAILABLE = "record_unavailable"


@dataclass(frozen=True, slots=True)
class Wording:
    """`ko`, `en`: the display at the lane. `guard_*`: what the guard sees. `action_*`: what to do."""

    ko: str
    en: str
    guard_ko: str
    guard_en: str
    action_ko: str
    action_en: str


_AGAIN = ("다시 대도록 안내", "Ask the person to present again")
_ISSUER = (
    "발급기관에 문의하도록 안내하고, 방문 절차로 처리",
    "Refer the person to the issuer; use the visitor desk meanwhile",
)
_ALARM = ("신분증을 육안으로 확인하고 보안 담당자에게 알림", "Check the person by eye and tell the security officer")
_DESK = ("안내 데스크에서 방문 절차 또는 권한 신청", "Send to the desk: visitor procedure, or a request for the right")
_TRUST = ("게이트의 신뢰 자료를 새로 받을 것(망 또는 USB)", "Refresh the gate's trust data, by network or USB stick")
_NEW_CODE = ("앱에서 새 코드를 띄우도록 안내", "Ask for a fresh code from the app")
_LOOK = ("통로를 살피고 사람을 직접 확인", "Look at the lane and check the person yourself")

WORDING: Mapping[Reason, Wording] = {
    Reason.UNREADABLE: Wording(
        "읽을 수 없습니다. 다시 대 주세요",
        "Unreadable. Please try again",
        "QR 코드나 카드가 신분증이 아님(카드 인증서가 없는 카드도)",
        "The QR code or card is no credential, or a card without a card-authentication certificate",
        *_AGAIN,
    ),
    Reason.LINK_LOST: Wording(
        "연결이 끊겼습니다. 다시 대 주세요",
        "Connection lost. Please try again",
        "휴대전화와의 연결이 끊김",
        "The link to the phone broke",
        *_AGAIN,
    ),
    Reason.LINK_TIMEOUT: Wording(
        "응답이 없습니다. 휴대전화를 확인해 주세요",
        "No answer. Please check your phone",
        "휴대전화가 제때 답하지 않음",
        "The phone did not answer in time",
        "휴대전화의 제출 화면을 확인하도록 안내",
        "Ask the person to look for the consent screen",
    ),
    Reason.HOLDER_DECLINED: Wording(
        "제출을 거절하셨습니다",
        "You declined to share",
        "본인이 제출을 거절함",
        "The holder declined",
        "본인이 원하면 다시 대도록 안내",
        "The person may present again, or use the desk",
    ),
    Reason.SESSION_ERROR: Wording(
        "보안 연결에 실패했습니다. 다시 대 주세요",
        "Secure session failed. Please try again",
        "암호화 연결 실패",
        "The encrypted session failed",
        *_AGAIN,
    ),
    Reason.MALFORMED: Wording(
        "잘못된 신분증 데이터입니다",
        "Malformed credential data",
        "형식에 맞지 않는 데이터",
        "The data breaks its format",
        "앱을 최신으로 바꾸고 다시 시도, 되풀이되면 보안 담당자에게",
        "Update the app and try again; if it repeats, tell the security officer",
    ),
    Reason.UNKNOWN_ISSUER: Wording(
        "등록되지 않은 발급기관입니다",
        "Issuer not recognised",
        "신뢰 목록에 없는 발급기관(PKOC는 등록되지 않은 키)",
        "The issuer, or a PKOC key itself, is not on the trusted list",
        *_DESK,
    ),
    Reason.ISSUER_LIST_STALE: Wording(
        "발급기관 목록이 오래되어 확인할 수 없습니다",
        "Issuer list too old to check",
        "발급기관 목록이 이 구역의 기한을 넘김",
        "The issuer list is older than this zone allows",
        *_TRUST,
    ),
    Reason.BAD_CERTIFICATE: Wording(
        "인증서에 문제가 있습니다",
        "Certificate not acceptable",
        "발급기관이나 카드의 인증서가 기준에 맞지 않음",
        "The issuer's or the card's certificate breaks its profile",
        *_ISSUER,
    ),
    Reason.SIGNER_REVOKED: Wording(
        "발급기관의 서명 인증서가 폐지되었습니다",
        "Issuer's signing certificate was revoked",
        "서명 인증서가 폐지 목록(CRL)에 있음",
        "The signing certificate is on the revocation list (CRL)",
        "새 신분증을 발급받도록 안내, 보안 담당자에게 알림",
        "The credential has to be issued anew; tell the security officer",
    ),
    Reason.CRL_STALE: Wording(
        "인증서 폐지 목록이 오래되었습니다",
        "Certificate revocation list too old",
        "CRL이 이 구역의 기한을 넘김",
        "The CRL is older than this zone allows",
        *_TRUST,
    ),
    Reason.BAD_SIGNATURE: Wording(
        "발급기관 서명이 올바르지 않습니다",
        "Issuer signature does not verify",
        "발급기관 서명이 맞지 않음: 위조 가능성",
        "The issuer's signature is wrong: possible forgery",
        *_ALARM,
    ),
    Reason.WRONG_DOCUMENT_TYPE: Wording(
        "이 출입문에서 쓸 수 없는 신분증입니다",
        "This document is not accepted here",
        "이 구역이 받지 않는 신분증 종류",
        "A document type that this zone does not take",
        "모바일 공무원증을 쓰거나 방문 절차로 안내",
        "Ask for the civil-servant ID, or send to the visitor desk",
    ),
    Reason.ALTERED: Wording(
        "신분증 내용이 변경되었습니다",
        "Credential content was altered",
        "내용이 서명과 다름, 또는 카드의 식별자가 인증서와 다름: 위조 가능성",
        "The content differs from what was signed, or a card's identifier from its certificate: possible forgery",
        *_ALARM,
    ),
    Reason.NOT_YET_VALID: Wording(
        "아직 유효기간이 시작되지 않았습니다",
        "Credential is not valid yet",
        "유효기간 시작 전",
        "Before its first valid day",
        "시작일을 확인하고, 게이트 시계도 확인",
        "Check the start date, and the gate's clock",
    ),
    Reason.EXPIRED: Wording(
        "유효기간이 지났습니다",
        "Credential has expired",
        "유효기간 만료",
        "Past its last valid day",
        "앱에서 갱신하도록 안내",
        "Ask the person to renew it in the app",
    ),
    Reason.WRONG_SESSION: Wording(
        "이 연결의 서명이 아닙니다",
        "Signature belongs to another session",
        "다른 연결에서 만든 응답, 또는 키가 없는 복제 카드: 중계·재생·복제 가능성",
        "An answer made for another session, or a cloned card without its key: possible relay, replay or clone",
        *_ALARM,
    ),
    Reason.STATUS_UNKNOWN: Wording(
        "폐지 여부를 확인할 수 없습니다",
        "Revocation status cannot be determined",
        "이 신분증의 상태 목록(카드는 CRL)이 게이트에 없음",
        "The gate holds no status list for this credential; of a card, no CRL",
        *_TRUST,
    ),
    Reason.REVOKED: Wording(
        "폐지된 신분증입니다",
        "Credential has been revoked",
        "발급기관이 폐지함",
        "The issuer revoked it",
        *_ISSUER,
    ),
    Reason.STATUS_STALE: Wording(
        "폐지 목록이 오래되어 확인할 수 없습니다",
        "Revocation data too old to check",
        "상태 목록(카드는 CRL)이 이 구역의 기한을 넘김",
        "The status list, of a card the CRL, is older than this zone allows",
        *_TRUST,
    ),
    Reason.MISSING_ELEMENT: Wording(
        "필요한 항목이 제출되지 않았습니다",
        "A required element was not shared",
        "규칙에 필요한 항목이 빠짐",
        "An element that the rules need is missing",
        "제출 화면에서 모든 항목에 동의하도록 안내",
        "Ask the person to agree to every element listed",
    ),
    Reason.WRONG_AUDIENCE: Wording(
        "다른 출입구용 코드입니다",
        "This code is for another entrance",
        "다른 출입구용으로 만든 QR 패스",
        "A QR pass made for another entrance",
        *_NEW_CODE,
    ),
    Reason.STALE: Wording(
        "코드의 시간이 지났습니다. 새 코드를 보여 주세요",
        "Code is too old. Please show a new one",
        "QR 패스가 만들어진 지 오래됨",
        "The QR pass was made too long ago",
        *_NEW_CODE,
    ),
    Reason.REPLAYED: Wording(
        "이미 사용한 코드입니다. 새 코드를 보여 주세요",
        "Code already used. Please show a new one",
        "이미 쓴 QR 패스: 촬영해 다시 썼을 수 있음",
        "A QR pass used before: it may have been filmed",
        *_NEW_CODE,
    ),
    Reason.DENIED_LIST: Wording(
        "사용이 중지된 신분증입니다. 경비에게 문의하세요",
        "This credential was stopped. Ask the guard",
        "차단 목록에 있음(분실 신고 등)",
        "On the deny list, such as a phone reported lost",
        *_ALARM,
    ),
    Reason.CLOCK_UNSET: Wording(
        "게이트 시계를 확인하고 있습니다. 경비에게 문의하세요",
        "Gate clock not set. Ask the guard",
        "게이트에 믿을 수 있는 시각이 없음",
        "The gate has no trusted time",
        "게이트의 시각을 확인·승인하고 시각 서버 연결을 점검",
        "Confirm the gate's time; check its time source",
    ),
    Reason.CLOCK_STALE: Wording(
        "게이트 시계가 오래 맞춰지지 않았습니다. 경비에게 문의하세요",
        "Gate clock not synchronised for too long. Ask the guard",
        "마지막 시각 동기화가 이 구역의 기한을 넘김",
        "The last synchronisation is longer ago than this zone allows",
        "시각 서버 연결을 점검",
        "Check the gate's time source",
    ),
    Reason.LOCKDOWN: Wording(
        "출입이 통제되었습니다. 안내에 따라 주세요",
        "Lockdown. Follow the instructions",
        "봉쇄(lockdown) 중, 예외 대상 아님",
        "Lockdown in force, and no exemption",
        "봉쇄 지침에 따를 것. 나가는 문은 열려 있음",
        "Follow the lockdown plan; exits stay open",
    ),
    Reason.ISSUER_NOT_ACCEPTED: Wording(
        "이 구역에서 받지 않는 발급기관입니다",
        "Issuer not accepted in this zone",
        "신뢰하는 발급기관이지만 이 구역의 규칙에 없음",
        "A trusted issuer that no rule of this zone names",
        *_DESK,
    ),
    Reason.NO_RIGHT_ZONE: Wording(
        "이 구역의 출입 권한이 없습니다",
        "No access right for this zone",
        "출입 등급이 이 구역에 맞지 않음",
        "The access class does not open this zone",
        *_DESK,
    ),
    Reason.AGENCY: Wording(
        "소속 기관에 출입 권한이 없습니다",
        "Your agency has no access here",
        "소속 기관이 이 구역의 규칙에 없음",
        "No rule of this zone names the agency",
        *_DESK,
    ),
    Reason.CARD_TYPE: Wording(
        "이 카드 종류로는 들어갈 수 없습니다",
        "This card type has no access here",
        "카드 종류가 이 구역의 규칙에 없음",
        "No rule of this zone names the card type",
        *_DESK,
    ),
    Reason.NO_RIGHT_POINT: Wording(
        "다른 출입구를 이용해 주세요",
        "Please use another entrance",
        "구역 권한은 있으나 이 출입점은 아님",
        "The zone is open to the person, this access point is not",
        "이 구역의 다른 출입구를 안내",
        "Show the way to another entrance of the zone",
    ),
    Reason.HOLIDAY: Wording(
        "휴일에는 출입할 수 없습니다",
        "No access on holidays",
        "평일이라면 출입 가능한 시간, 오늘은 휴일 또는 특별일",
        "Within the usual hours, but today is a holiday or special day",
        "휴일 출입 승인을 받았는지 확인",
        "Ask for an approval for work on holidays",
    ),
    Reason.OUTSIDE_SCHEDULE: Wording(
        "출입 가능 시간이 아닙니다",
        "Outside permitted hours",
        "허용된 시간 밖",
        "Outside the hours of every profile that matches",
        "출입 가능 시간을 알리고, 필요하면 승인을 받도록 안내",
        "Tell the permitted hours; an approval is needed otherwise",
    ),
    Reason.CARRIER_NOT_ALLOWED: Wording(
        "이 방식으로는 들어갈 수 없습니다. 다른 방식으로 대 주세요",
        "Not accepted this way. Please present differently",
        "이 구역이 받지 않는 제시 방식(예: QR 패스)",
        "A way of presenting that this zone does not take, such as a QR pass",
        "휴대전화를 판독기에 대도록 안내",
        "Ask the person to tap the phone",
    ),
    Reason.VISIT_MISSING: Wording(
        "등록된 방문이 없습니다. 안내 데스크로 가 주세요",
        "No visit registered. Please go to the desk",
        "이 신분증의 방문 기록이 없음",
        "No visit record for this presentation",
        "안내 데스크에서 방문 등록",
        "Register the visit at the desk",
    ),
    Reason.VISIT_OTHER_ZONE: Wording(
        "방문이 허가된 구역이 아닙니다",
        "Your visit is for another zone",
        "방문 기록에 이 구역이 없음",
        "The visit record does not name this zone",
        "방문 구역을 안내",
        "Show the way to the zone of the visit",
    ),
    Reason.VISIT_NOT_YET: Wording(
        "방문 시간이 아직 아닙니다",
        "Your visit has not begun",
        "방문 시작 전",
        "Before the visit's window",
        "시작 시각을 알리고 대기하도록 안내",
        "Tell the time and ask the person to wait",
    ),
    Reason.VISIT_OVER: Wording(
        "방문 시간이 끝났습니다",
        "Your visit is over",
        "방문 종료 후",
        "After the visit's window",
        "안내 데스크에서 다시 등록",
        "Register a new visit at the desk",
    ),
    Reason.ESCORT_MISSING: Wording(
        "안내하는 직원이 먼저 통과해야 합니다",
        "Your host must pass first",
        "동행 직원이 제때 통과하지 않음",
        "No host passed here in time",
        "담당 직원을 불러 먼저 통과하게 할 것",
        "Call the host, who passes first",
    ),
    Reason.WRONG_ESCORT: Wording(
        "담당 직원과 함께 통과해 주세요",
        "Please pass with your own host",
        "먼저 통과한 사람은 이 방문자의 동행 직원이 될 수 없음",
        "Who passed before may not be this guest's host",
        "담당 직원을 불러 먼저 통과하게 할 것",
        "Call the right host, who passes first",
    ),
    Reason.OCCUPANCY_UPPER: Wording(
        "정원이 찼습니다. 잠시 기다려 주세요",
        "Zone is full. Please wait",
        "구역 인원이 정원에 이름",
        "The zone has reached its limit",
        "사람이 나올 때까지 대기, 인원 수가 맞는지 확인",
        "Wait until somebody leaves; check that the count is right",
    ),
    Reason.ANTIPASSBACK_HARD: Wording(
        "나간 기록 없이 다시 들어올 수 없습니다. 경비에게 문의하세요",
        "Entered before without leaving. Ask the guard",
        "들어간 뒤 나간 기록이 없음",
        "Seen entering and not leaving",
        "본인을 확인한 뒤 다음 제시를 한 번 허용(forgive)",
        "Check the person, then forgive the next presentation",
    ),
    Reason.ANTIPASSBACK_TIMED: Wording(
        "방금 들어가셨습니다. 잠시 뒤에 다시 대 주세요",
        "Entered a moment ago. Please wait",
        "정해진 시간 안에 다시 들어오려 함",
        "A second entry within the zone's minutes",
        "본인을 확인하거나 시간이 지난 뒤 다시 시도",
        "Check the person, or let the time pass",
    ),
    Reason.ANTIPASSBACK_CUT_OFF: Wording(
        "확인할 수 없어 열 수 없습니다. 경비에게 문의하세요",
        "Cannot check, cannot open. Ask the guard",
        "다른 게이트와 연결이 끊겨 재진입을 확인할 수 없음",
        "Cut off from the zone's other gates: re-entry cannot be checked",
        "망을 점검하고, 그동안 사람을 직접 확인",
        "Check the network; check people yourself meanwhile",
    ),
    Reason.ANTIPASSBACK_NO_HANDLE: Wording(
        "이것으로는 들어갈 수 없습니다. 휴대전화를 대 주세요",
        "Not accepted here. Please tap your phone",
        "재진입을 확인할 수 없는 제시 방식",
        "A presentation by which re-entry cannot be checked",
        "휴대전화를 판독기에 대도록 안내",
        "Ask the person to tap the phone",
    ),
    Reason.SECOND_FACTOR_MISSING: Wording(
        "추가 확인 장치를 쓸 수 없습니다. 경비에게 문의하세요",
        "Second check unavailable. Ask the guard",
        "추가 인증 장치가 없거나 고장",
        "The second-factor device is absent or out of order",
        "장치를 점검하고, 그동안 사람을 직접 확인",
        "Check the device; check people yourself meanwhile",
    ),
    Reason.SECOND_FACTOR_FAILED: Wording(
        "본인 확인에 실패했습니다. 경비에게 문의하세요",
        "Second check failed. Ask the guard",
        "추가 인증(예: 얼굴) 불일치",
        "The second factor, such as the face, does not match",
        *_LOOK,
    ),
    Reason.SECOND_FACTOR_TIMEOUT: Wording(
        "추가 확인이 제때 끝나지 않았습니다. 다시 대 주세요",
        "Second check took too long. Please try again",
        "추가 인증이 제때 답하지 않음",
        "The second factor did not answer in time",
        *_AGAIN,
    ),
    Reason.SECOND_PERSON_MISSING: Wording(
        "두 사람이 함께 확인해야 합니다",
        "Two people must present together",
        "두 번째 사람이 제때 제시하지 않음",
        "No second person presented in time",
        "두 사람이 이어서 제시하도록 안내",
        "Ask both people to present one after the other",
    ),
    Reason.FIRE_ACTIVE: Wording(
        "화재 경보 중입니다. 밖으로 나가 주세요",
        "Fire alarm. Please leave the building",
        "화재 신호로 열려 있음",
        "Held open by the fire line",
        "대피를 안내",
        "Direct the evacuation",
    ),
    Reason.OUT_OF_SERVICE: Wording(
        "사용 중지된 출입문입니다",
        "Lane out of service",
        "통로가 중지되었거나 장치 고장",
        "The lane is out of service, or a device failed",
        "옆 통로로 안내하고 장치 상태를 확인",
        "Send people to the next lane; check the devices",
    ),
    Reason.LANE_BUSY: Wording(
        "앞사람이 통과한 뒤 다시 대 주세요",
        "Please wait for the person ahead",
        "앞사람이 아직 통과 중",
        "The person ahead is still passing",
        *_AGAIN,
    ),
    Reason.NOT_AT_LANE: Wording(
        "통로 앞에 서 주세요",
        "Please stand in the lane",
        "휴대전화가 답할 때 통로 앞에 아무도 없었음(다가섬 방식)",
        "Nobody stood in the lane when the phone answered (walk-up)",
        *_AGAIN,
    ),
    Reason.RECORD_UNAVAILABLE: Wording(
        "기록할 수 없어 열 수 없습니다. 경비에게 문의하세요",
        "Cannot record, cannot open. Ask the guard",
        "기록을 남길 수 없음(디스크)",
        "No durable record can be written (disk)",
        "게이트 디스크를 점검하고, 그동안 사람을 직접 확인",
        "Check the gate's disk; check people yourself meanwhile",
    ),
}
ORDER: tuple[Reason, ...] = tuple(Reason)
GROUPS: tuple[tuple[Reason, str, str], ...] = (
    (Reason.UNREADABLE, "휴대전화와 주고받기", "the exchange with the phone"),
    (Reason.UNKNOWN_ISSUER, "검증", "the verifier"),
    (Reason.DENIED_LIST, "이곳의 규칙", "this site's rules"),
    (Reason.FIRE_ACTIVE, "통로와 기록", "the lane and the record"),
)
"""Each group begins with its first reason."""
