"""Every metric of `/metrics`: name, type, labels, and what it says. docs/metrics.md has the same rows, which a test holds."""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, SUMMARY, INFO = "counter", "gauge", "summary", "info"


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    """Without `_total` and `_info`, which stand in `shown`."""
    type: str
    labels: tuple[str, ...]
    ko: str
    en: str

    @property
    def shown(self) -> str:
        return self.name + {COUNTER: "_total", INFO: "_info"}.get(self.type, "")

    @property
    def help(self) -> str:
        return f"{self.ko} / {self.en}"


_GATE, _LANE, _CAMERA = ("gate",), ("gate", "lane", "dir"), ("gate", "camera")
_HOOK = ("webhook",)

FAMILIES: tuple[Family, ...] = (
    # The controller.
    Family("gwanmun_build", INFO, ("version",), "이 프로그램의 버전", "version of this program"),
    Family("gwanmun_broker_connected", GAUGE, (), "1: 브로커에 연결됨", "1: connected to the broker"),
    Family("gwanmun_store_writable", GAUGE, (), "1: 저장소에 쓸 수 있음", "1: the store can be written"),
    Family("gwanmun_store_failures", COUNTER, (), "쓰지 못한 트랜잭션", "transactions that the store could not write"),
    Family(
        "gwanmun_store_commit_under_way_seconds",
        GAUGE,
        (),
        "진행 중인 커밋이 걸린 시간, 초 단위로 버림",
        "how long the commit under way has taken, whole seconds",
    ),
    Family(
        "gwanmun_store_commit_seconds",
        SUMMARY,
        ("quantile",),
        "지난 15분의 커밋 시간. 500번 이상일 때",
        "duration of the commits of the last quarter hour, where there were 500 or more",
    ),
    Family(
        "gwanmun_store_batch_messages",
        SUMMARY,
        ("quantile",),
        "지난 15분의 한 트랜잭션 메시지 수. 500번 이상일 때",
        "messages in a transaction of the last quarter hour, where there were 500 or more",
    ),
    Family("gwanmun_store_size_bytes", GAUGE, (), "데이터베이스 크기, MiB 단위", "size of the database, whole MiB"),
    Family("gwanmun_store_wal_bytes", GAUGE, (), "WAL 크기, MiB 단위", "size of its write-ahead log, whole MiB"),
    Family(
        "gwanmun_store_disk_free_bytes", GAUGE, (), "남은 디스크, MiB 단위", "disk space left where it lies, whole MiB"
    ),
    Family(
        "gwanmun_store_readable", GAUGE, (), "1: 이 조회에서 저장소를 읽음", "1: the store was read for this scrape"
    ),
    Family("gwanmun_ingest_healths", COUNTER, (), "받은 상태 보고", "health messages taken"),
    Family("gwanmun_ingest_duplicates", COUNTER, (), "이미 있던 기록을 다시 받음", "records that were there already"),
    Family("gwanmun_ingest_set_aside", COUNTER, (), "격리한 메시지", "messages set aside"),
    Family(
        "gwanmun_ingest_dropped", COUNTER, (), "자리가 없어 버린 상태 보고", "health messages dropped for want of room"
    ),
    Family(
        "gwanmun_ingest_lag_seconds",
        SUMMARY,
        ("quantile",),
        "지난 15분에 온 기록의 시각에서 저장까지. 100건 이상일 때",
        "from a record's own time to its commit, of those of the last quarter hour, where there were 100 or more",
    ),
    Family(
        "gwanmun_replay_requests", COUNTER, (), "기록을 다시 보내 달라는 요청", "requests for records to be sent again"
    ),
    Family("gwanmun_record_alarms", COUNTER, (), "기록에 관한 경보", "alarms about records (docs/ingest.md)"),
    Family(
        "gwanmun_events",
        COUNTER,
        ("kind",),
        "저장한 사건. 통행의 시각을 알리는 종류는 없음",
        "events stored, without the kinds that tell when somebody walked",
    ),
    Family(
        "gwanmun_passages",
        COUNTER,
        (),
        "청사 전체의 통과. 15분 경계에서 5명 이상일 때만 늘어남",
        "passages of the whole site; grows at a quarter hour only, by five or more",
    ),
    Family("gwanmun_refusals", COUNTER, ("reason",), "사유별 거절", "refusals by reason, of the whole site"),
    Family(
        "gwanmun_decision_seconds",
        SUMMARY,
        ("carrier", "quantile"),
        "지난 15분의 허가에 걸린 게이트 몫의 시간, 청사 전체. 5건 이상일 때",
        "the gates' own part of a grant, of the whole site in the last quarter hour, where there were five or more",
    ),
    Family(
        "gwanmun_rollup_behind_records",
        GAUGE,
        (),
        "아직 집계하지 않은 기록, 100 단위로 버림",
        "records not counted yet, whole hundreds",
    ),
    Family(
        "gwanmun_retention_last_deletion_timestamp_seconds",
        GAUGE,
        (),
        "보관 기한에 따라 마지막으로 지운 때",
        "when retention last removed something",
    ),
    Family("gwanmun_alarms", GAUGE, ("severity", "acknowledged"), "이어지고 있는 경보", "alarms that go on"),
    Family("gwanmun_watchers", GAUGE, (), "실시간 화면을 보는 연결", "viewers of the live page"),
    Family(
        "gwanmun_webhook_waiting",
        GAUGE,
        _HOOK,
        "아직 보내지 않은 변화",
        "changes that it has not been told of, wanted or not",
    ),
    Family("gwanmun_webhook_delivered", COUNTER, _HOOK, "전달한 메시지", "messages taken"),
    Family("gwanmun_webhook_failures", COUNTER, _HOOK, "실패한 시도", "attempts that failed"),
    Family("gwanmun_webhook_given_up", COUNTER, _HOOK, "포기한 메시지", "messages given up"),
    Family(
        "gwanmun_webhook_failing_seconds",
        GAUGE,
        _HOOK,
        "계속 실패한 시간. 0: 정상",
        "how long it has failed; 0: it works",
    ),
    Family("gwanmun_webhook_disabled", GAUGE, _HOOK, "1: 수신자가 410으로 거절함", "1: its receiver answered 410"),
    Family("process_start_time_seconds", GAUGE, (), "관제 서버가 시작한 때", "when the controller started"),
    Family("process_cpu_seconds", COUNTER, (), "쓴 프로세서 시간", "processor time used"),
    Family("process_resident_memory_bytes", GAUGE, (), "메모리", "memory"),
    Family("process_virtual_memory_bytes", GAUGE, (), "주소 공간", "address space"),
    Family("process_open_fds", GAUGE, (), "열린 파일", "open files"),
    Family("process_max_fds", GAUGE, (), "열 수 있는 파일", "files that may be open"),
    # Gates.
    Family("gwanmun_gate_online", GAUGE, _GATE, "1: 연결됨", "1: connected"),
    Family(
        "gwanmun_gate_last_seen_age_seconds",
        GAUGE,
        _GATE,
        "마지막 메시지 뒤 지난 시간, 분 단위로 버림",
        "time since its last message, whole minutes",
    ),
    Family(
        "gwanmun_gate",
        INFO,
        ("gate", "version", "trust"),
        "프로그램과 신뢰 자료의 버전",
        "versions of agent and trust data",
    ),
    Family("gwanmun_gate_uptime_seconds", GAUGE, _GATE, "프로그램이 시작한 뒤", "since its agent started"),
    Family(
        "gwanmun_gate_clock",
        GAUGE,
        ("gate", "quality"),
        "1: 시계의 지금 상태(synced, holdover, unset)",
        "1 for what its clock is: synced, holdover or unset",
    ),
    Family(
        "gwanmun_gate_outbox_records",
        GAUGE,
        _GATE,
        "확인되지 않은 기록. 가장 오래된 것이 1분이 안 되면 0",
        "records not acknowledged; 0 while the oldest is younger than a minute",
    ),
    Family(
        "gwanmun_gate_outbox_age_seconds",
        GAUGE,
        _GATE,
        "그중 가장 오래된 것의 나이. 1분이 안 되면 0",
        "age of the oldest of them; 0 below a minute",
    ),
    Family(
        "gwanmun_gate_disk_free_bytes", GAUGE, _GATE, "저널이 있는 디스크의 빈 곳", "disk space left for its journal"
    ),
    Family("gwanmun_gate_resident_memory_bytes", GAUGE, _GATE, "프로그램의 메모리", "memory of its agent"),
    Family(
        "gwanmun_gate_degraded", GAUGE, _GATE, "고장 난 장치와 서비스의 수", "devices and services that do not work"
    ),
    Family("gwanmun_gate_record_alarms", GAUGE, _GATE, "이 게이트의 기록에 관한 경보", "alarms about its records"),
    Family("gwanmun_lane_state", GAUGE, (*_LANE, "state"), "1: 통로의 지금 상태", "1 for what the lane is"),
    Family("gwanmun_lane_degraded", GAUGE, _LANE, "통로에서 고장 난 것의 수", "what of the lane does not work"),
    Family("gwanmun_camera_frames_per_second", GAUGE, _CAMERA, "초당 읽은 화면", "frames decoded a second"),
    Family(
        "gwanmun_camera_read_ratio",
        GAUGE,
        _CAMERA,
        "움직임 가운데 코드를 읽은 비율. 15분 경계에서 40번 이상일 때만 바뀜",
        "share of movements in which a code was read; changes at a quarter hour only, with forty movements or more",
    ),
    Family(
        "gwanmun_camera_decode_mean_seconds",
        GAUGE,
        _CAMERA,
        "화면 하나를 읽는 시간의 평균, 위와 같은 때에 바뀜",
        "mean time to decode a frame; changes as the one before",
    ),
    Family(
        "gwanmun_camera_decode_p95_seconds",
        GAUGE,
        _CAMERA,
        "100개 가운데 95개가 걸리지 않는 시간, 위와 같은 때에 바뀜",
        "95 of 100 frames took less; changes as the one before",
    ),
    Family(
        "gwanmun_camera_settings_refused", GAUGE, _CAMERA, "카메라가 받지 않은 설정의 수", "settings it did not take"
    ),
)
