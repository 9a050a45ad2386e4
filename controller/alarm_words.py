"""What alarms are called and what to do about each, Korean and English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    ko: str
    en: str
    do_ko: str
    """What to do."""
    do_en: str

    def text(self, language: str) -> str:
        return self.ko if language == "ko" else self.en

    def advice(self, language: str) -> str:
        return self.do_ko if language == "ko" else self.do_en


WORDS: Mapping[str, Words] = {
    "alarm.forced": Words(
        "강제 진입",
        "Forced entry",
        "바로 통로로 가서 확인하고 영상을 봅니다.",
        "Go to the lane at once and look at the video.",
    ),
    "alarm.crawl": Words(
        "기어서 진입",
        "Crawled under",
        "바로 통로로 가서 확인하고 영상을 봅니다.",
        "Go to the lane at once and look at the video.",
    ),
    "alarm.wrong_way": Words(
        "역방향 진입",
        "Wrong way",
        "통로로 가서 누가 들어왔는지 확인합니다.",
        "Go to the lane and see who came in.",
    ),
    "alarm.tailgate": Words(
        "뒤따라 진입",
        "Tailgating",
        "뒤따른 사람을 찾아 출입을 확인합니다.",
        "Find the second person and check their entry.",
    ),
    "alarm.loiter": Words(
        "통로 앞 머무름",
        "Loitering",
        "도움이 필요한지 살펴봅니다.",
        "See whether somebody needs help.",
    ),
    "alarm.held.pre": Words(
        "통로 막힘 주의",
        "Held open, warning",
        "통로에 사람이나 물건이 있는지 봅니다.",
        "See whether somebody or something stands in the lane.",
    ),
    "alarm.held": Words(
        "통로 막힘",
        "Held open",
        "통로를 비우고, 닫히지 않으면 사용을 중지합니다.",
        "Clear the lane; take it out of service if it does not close.",
    ),
    "alarm.tamper": Words(
        "훼손 감지",
        "Tamper",
        "바로 가서 함체와 배선을 확인합니다.",
        "Go at once and look at the housing and the wiring.",
    ),
    "power.mains_lost": Words(
        "정전, 배터리 사용",
        "Mains lost, on battery",
        "전원을 확인합니다. 배터리는 오래가지 않습니다.",
        "Check the supply: the battery does not last long.",
    ),
    "power.battery_low": Words(
        "배터리 부족",
        "Battery low",
        "전원을 되살리거나 사람을 배치합니다.",
        "Restore the supply, or post a guard.",
    ),
    "fire.asserted": Words(
        "화재 개방",
        "Fire, opened",
        "화재 절차를 따릅니다. 되돌리기는 현장에서만 됩니다.",
        "Follow the fire procedure; the reset is on the spot only.",
    ),
    "lockdown.entered": Words(
        "봉쇄",
        "Lockdown",
        "상황이 끝나면 봉쇄를 해제합니다.",
        "Release it when the situation is over.",
    ),
    "lane.fault": Words(
        "통로 고장",
        "Lane fault",
        "릴레이와 통로를 점검한 뒤 해제합니다.",
        "Check relay and lane, then clear this alarm.",
    ),
    "command.forged": Words(
        "위조되거나 재사용된 지시",
        "Forged or replayed order",
        "누가 지시를 보냈는지 브로커와 네트워크를 조사합니다.",
        "Find out who sent it: look at broker and network.",
    ),
    "log.gap": Words(
        "기록 누락",
        "Gap in the log",
        "게이트의 디스크를 확인하고, 누락 기간을 다른 자료로 확인합니다.",
        "Check the gate's disk; look at that time in other sources.",
    ),
    "trust.rejected": Words(
        "신뢰 목록이나 규칙 거부",
        "Trust data or rules rejected",
        "배포한 파일의 서명과 버전을 확인합니다. 이전 것이 쓰이고 있습니다.",
        "Check signature and version of what was deployed; the old one is in force.",
    ),
    "sensor.fault": Words(
        "감지기 이상",
        "Sensor fault",
        "감지기를 닦거나 바꿉니다.",
        "Clean or replace the sensor.",
    ),
    "device.degraded": Words(
        "장치 이상",
        "Device degraded",
        "장치의 연결과 전원을 확인합니다.",
        "Check the device's cable and power.",
    ),
    "alarm.uplink": Words(
        "전송 거부",
        "Uplink refused",
        "브로커의 접근 목록과 기록 불일치를 확인합니다.",
        "Check the broker's access list, and whether the records differ (docs/uplink.md).",
    ),
    "clock.unset": Words(
        "게이트 시각 모름",
        "Gate's clock unset",
        "게이트의 NTP를 확인하거나 현장에서 시각을 확인합니다.",
        "Check the gate's NTP, or confirm the time on the spot.",
    ),
    "record.chain": Words(
        "기록 사슬 끊김",
        "Records do not fit",
        "기록이 바뀌었거나 디스크가 바뀌었습니다. 증거를 보존하고 조사합니다.",
        "Records were changed or a disk was replaced. Keep the evidence and investigate.",
    ),
    "record.conflict": Words(
        "같은 번호의 다른 기록",
        "Other bytes under a known number",
        "복제된 게이트나 바뀐 기록일 수 있습니다. 조사합니다.",
        "A copied gate or changed records: investigate.",
    ),
    "record.checkpoint": Words(
        "기록 서명 오류",
        "Checkpoint signature wrong",
        "게이트의 키와 저널을 조사합니다.",
        "Investigate the gate's key and journal.",
    ),
    "record.statement": Words(
        "믿을 수 없는 누락 설명",
        "Statement about missing records does not hold",
        "게이트의 키와 저널을 조사합니다.",
        "Investigate the gate's key and journal.",
    ),
    "record.not_enrolled": Words(
        "등록되지 않은 게이트",
        "Gate not enrolled",
        "게이트를 등록하거나 망에서 떼어 냅니다.",
        "Enrol the gate, or take it off the network.",
    ),
    "record.hole": Words(
        "잃은 기록",
        "Records lost here",
        "이 번호가 든 백업이 있으면 되살립니다.",
        "Restore from a backup that has them, where there is one.",
    ),
    "record.new_epoch": Words(
        "설명 없는 새 저널",
        "New journal without explanation",
        "게이트의 디스크가 바뀌었는지 확인합니다.",
        "See whether the gate's disk was replaced.",
    ),
    "record.rewind": Words(
        "부팅 번호가 뒤로 감",
        "Boot number went back",
        "복제된 디스크나 옛 이미지인지 확인합니다.",
        "Look for a copied disk or an old image.",
    ),
    "record.poison": Words(
        "기록이 아닌 메시지",
        "Messages set aside",
        "게이트의 프로그램과 설정을 확인합니다.",
        "Check the gate's program and configuration.",
    ),
    "record.newer_schema": Words(
        "더 새로운 형식의 기록",
        "Records of a newer form",
        "관제 서버를 새 버전으로 올립니다.",
        "Update the controller.",
    ),
    "gate.offline": Words(
        "게이트 응답 없음",
        "Gate silent",
        "게이트의 전원과 네트워크를 확인합니다. 게이트는 혼자서도 계속 판정합니다.",
        "Check the gate's power and network; it goes on deciding by itself.",
    ),
    "gate.outbox": Words(
        "기록 전송이 밀림",
        "Records wait at the gate",
        "게이트와 브로커 사이의 연결을 확인합니다.",
        "Check the line between gate and broker.",
    ),
    "gate.disk": Words(
        "게이트 디스크 부족",
        "Gate's disk nearly full",
        "게이트의 디스크를 비우거나 바꿉니다.",
        "Free or replace the gate's disk.",
    ),
    "controller.broker": Words(
        "브로커에 연결되지 않음",
        "No connection to the broker",
        "브로커를 확인합니다. 기록은 게이트에 보관됩니다.",
        "Check the broker; gates keep their records meanwhile.",
    ),
    "controller.store": Words(
        "저장소에 쓸 수 없었음",
        "The store could not write",
        "관제 서버의 디스크를 확인합니다.",
        "Check the controller's disk.",
    ),
    "controller.disk": Words(
        "관제 서버 디스크 부족",
        "Controller's disk nearly full",
        "디스크를 비우거나 늘립니다.",
        "Free or extend the disk.",
    ),
    "controller.webhook": Words(
        "웹훅 전달 포기",
        "Webhook given up",
        "받는 쪽을 확인합니다(docs/webhooks.md).",
        "Check the receiver (docs/webhooks.md).",
    ),
    "controller.integrity": Words(
        "데이터베이스 검사 실패",
        "Database check failed",
        "백업에서 되살리고 게이트에 다시 달라고 합니다.",
        "Restore a backup and ask the gates again.",
    ),
    "controller.retention": Words(
        "보관 기한이 지난 자료가 남음",
        "Retention overdue",
        "설명되지 않은 빠진 기록이나 끊긴 사슬이 앞에 있습니다. 그 경보를 먼저 해결합니다.",
        "A hole or a broken chain that nobody has explained lies before it: settle that alarm first.",
    ),
    "controller.alarms": Words(
        "경보가 너무 많음",
        "Too many alarms",
        "열린 경보를 처리합니다. 새 경보가 목록에 오르지 못했습니다.",
        "Work on the open ones: new alarms found no room in the list.",
    ),
}
