"""Why an attempt was refused: one reason each, the first that failed in this published order.

The order is the order of the table: link and format first, then the verifier's checks, then this site's rules, then the
record. Each row carries what the person at the lane reads, in Korean and English.
"""

from __future__ import annotations

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
    # The verifier (mdoc.verify), in its own published order.
    UNKNOWN_ISSUER = "unknown_issuer"
    BAD_CERTIFICATE = "bad_certificate"
    BAD_SIGNATURE = "bad_signature"
    WRONG_DOCUMENT_TYPE = "wrong_document_type"
    ALTERED = "altered"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_SESSION = "wrong_session"
    STATUS_UNKNOWN = "status_unknown"
    REVOKED = "revoked"
    MISSING_ELEMENT = "missing_element"
    WRONG_AUDIENCE = "wrong_audience"
    STALE = "stale"
    REPLAYED = "replayed"
    # This site's rules (policy.decision).
    NO_RIGHT_ZONE = "no_right_zone"
    AGENCY = "agency"
    OUTSIDE_SCHEDULE = "outside_schedule"
    # The lane and the record.
    OUT_OF_SERVICE = "out_of_service"
    LANE_BUSY = "lane_busy"
    RECORD_UNAVAILABLE = "record_unavailable"


@dataclass(frozen=True, slots=True)
class Wording:
    ko: str
    en: str


WORDING: dict[Reason, Wording] = {
    Reason.UNREADABLE: Wording("읽을 수 없습니다. 다시 대 주세요", "Unreadable. Please try again"),
    Reason.LINK_LOST: Wording("연결이 끊겼습니다. 다시 대 주세요", "Connection lost. Please try again"),
    Reason.LINK_TIMEOUT: Wording("응답이 없습니다. 휴대전화를 확인해 주세요", "No answer. Please check your phone"),
    Reason.HOLDER_DECLINED: Wording("제출을 거절하셨습니다", "You declined to share"),
    Reason.SESSION_ERROR: Wording(
        "보안 연결에 실패했습니다. 다시 대 주세요", "Secure session failed. Please try again"
    ),
    Reason.MALFORMED: Wording("잘못된 신분증 데이터입니다", "Malformed credential data"),
    Reason.UNKNOWN_ISSUER: Wording("등록되지 않은 발급기관입니다", "Issuer not recognised"),
    Reason.BAD_CERTIFICATE: Wording("발급기관 인증서에 문제가 있습니다", "Issuer certificate not acceptable"),
    Reason.BAD_SIGNATURE: Wording("발급기관 서명이 올바르지 않습니다", "Issuer signature does not verify"),
    Reason.WRONG_DOCUMENT_TYPE: Wording("이 출입문에서 쓸 수 없는 신분증입니다", "This document is not accepted here"),
    Reason.ALTERED: Wording("신분증 내용이 변경되었습니다", "Credential content was altered"),
    Reason.NOT_YET_VALID: Wording("아직 유효기간이 시작되지 않았습니다", "Credential is not valid yet"),
    Reason.EXPIRED: Wording("유효기간이 지났습니다", "Credential has expired"),
    Reason.WRONG_SESSION: Wording("이 연결의 서명이 아닙니다", "Signature belongs to another session"),
    Reason.STATUS_UNKNOWN: Wording("폐지 여부를 확인할 수 없습니다", "Revocation status cannot be determined"),
    Reason.REVOKED: Wording("폐지된 신분증입니다", "Credential has been revoked"),
    Reason.MISSING_ELEMENT: Wording("필요한 항목이 제출되지 않았습니다", "A required element was not shared"),
    Reason.WRONG_AUDIENCE: Wording("다른 출입구용 코드입니다", "This code is for another entrance"),
    Reason.STALE: Wording("코드의 시간이 지났습니다. 새 코드를 보여 주세요", "Code is too old. Please show a new one"),
    Reason.REPLAYED: Wording(
        "이미 사용한 코드입니다. 새 코드를 보여 주세요", "Code already used. Please show a new one"
    ),
    Reason.NO_RIGHT_ZONE: Wording("이 구역의 출입 권한이 없습니다", "No access right for this zone"),
    Reason.AGENCY: Wording("소속 기관에 출입 권한이 없습니다", "Your agency has no access here"),
    Reason.OUTSIDE_SCHEDULE: Wording("출입 가능 시간이 아닙니다", "Outside permitted hours"),
    Reason.OUT_OF_SERVICE: Wording("사용 중지된 출입문입니다", "Lane out of service"),
    Reason.LANE_BUSY: Wording("앞사람이 통과한 뒤 다시 대 주세요", "Please wait for the person ahead"),
    Reason.RECORD_UNAVAILABLE: Wording(
        "기록할 수 없어 열 수 없습니다. 경비에게 문의하세요", "Cannot record, cannot open. Ask the guard"
    ),
}
ORDER: tuple[Reason, ...] = tuple(Reason)
