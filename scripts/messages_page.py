"""docs/messages.md: everything a sign says, with the key that names a recording of it."""

from __future__ import annotations

from drivers.ports import Light, Message
from drivers.signal.speech import MAX_LENGTH_S
from drivers.signal.tones import TONES
from gate_agent.messages import GUIDANCE, OUT_OF_SERVICE, REFUSALS

LIGHTS = {
    Light.IDLE: ("대기", "idle"),
    Light.WAIT: ("기다림", "wait"),
    Light.GREEN: ("통과", "yes"),
    Light.RED: ("거절", "no"),
    Light.FAULT: ("고장", "fault"),
}
HEAD = ["| `key` | 표시 · light | 한국어 | English |", "| --- | --- | --- | --- |"]


def _row(message: Message) -> str:
    ko, en = LIGHTS[message.light]
    return f"| `{message.key}` | {ko} · {en} | {message.ko} | {message.en} |"


def _tone(light: Light) -> str:
    ko, en = LIGHTS[light]
    notes = ", ".join(f"{hertz} Hz {milliseconds} ms" for hertz, milliseconds in TONES[light] if hertz)
    return f"| {ko} · {en} | {notes} |"


def page() -> str:
    spoken = sum(message.light in TONES for message in {each.key: each for each in (*GUIDANCE, *REFUSALS)}.values())
    return "\n".join(
        [
            "# 안내 문구 · Messages",
            "",
            "통로의 표시기가 보이고 말하는 모든 문구입니다. `gate_agent/messages.py`와 `policy/reasons.py`에서 만들어집니다.",
            f"녹음은 `key.ko.wav`, `key.en.wav`라는 이름으로 둡니다(WAV, {MAX_LENGTH_S:g}초 이하, [signal.md](signal.md)). "
            f"대기는 소리가 없으므로 녹음할 것은 {spoken}개입니다.",
            "*Everything a sign shows and says, made from `gate_agent/messages.py` and `policy/reasons.py`. A recording is named "
            f"`key.ko.wav` or `key.en.wav` (WAV, at most {MAX_LENGTH_S:g} s). Idle is silent, so that {spoken} of them are worth "
            "recording. A key outlives a change of its words.*",
            "",
            "## 안내 · Guidance",
            "",
            *HEAD,
            *(_row(message) for message in GUIDANCE),
            "",
            "통로가 QR 패스에 번호를 요구하면(`pass_challenge`) `idle`의 글에 그 번호가 붙습니다.",
            "*Where a lane asks a QR pass for a number (`pass_challenge`), the text of `idle` has it behind.*",
            "",
            "## 거절 · Refusals",
            "",
            f"`key`는 거절 사유입니다([reasons.md](reasons.md)). `{OUT_OF_SERVICE.key}`는 통로가 쉬는 동안에도 보입니다.",
            f"*The key is the reason ([reasons.md](reasons.md)). `{OUT_OF_SERVICE.key}` is also shown while a lane is out of "
            "service.*",
            "",
            *HEAD,
            *(_row(message) for message in REFUSALS),
            "",
            "## 소리 · Tones",
            "",
            "| 뜻 · meaning | 음 · notes |",
            "| --- | --- |",
            *(_tone(light) for light in TONES),
            "",
        ]
    )
