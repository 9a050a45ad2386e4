"""Pages that are made from the code: `python scripts/generate_docs.py` writes them, `--check` says which are out of date."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import messages_page  # noqa: E402  the path comes first
import openapi_page  # noqa: E402  the path comes first
import passage_page  # noqa: E402  the path comes first
import verification_page  # noqa: E402  the path comes first

from policy.reasons import GROUPS, ORDER, WORDING  # noqa: E402  the path comes first


def reasons() -> str:
    headings = {first: f"{ko} · {en}" for first, ko, en in GROUPS}
    lines = [
        "# 거절 사유 · Refusal reasons",
        "",
        "거절에는 사유가 하나 있습니다. 이 순서에서 처음 걸린 것입니다. 이 문서는 `policy/reasons.py`에서 만들어집니다.",
        "*Every refusal has exactly one reason, the first that failed in this order. Made from `policy/reasons.py`.*",
    ]
    for number, reason in enumerate(ORDER, 1):
        if reason in headings:
            lines += [
                "",
                f"## {headings[reason]}",
                "",
                "| no. | `reason` | 표시 · display | 경비 화면 · what the guard sees | 할 일 · what to do |",
                "| ---: | --- | --- | --- | --- |",
            ]
        words = WORDING[reason]
        cells = (
            (words.ko, words.en),
            (words.guard_ko, words.guard_en),
            (words.action_ko, words.action_en),
        )
        lines.append(f"| {number} | `{reason}` | " + " | ".join(f"{ko}<br>*{en}*" for ko, en in cells) + " |")
    return "\n".join(lines) + "\n"


PAGES = {
    "controller/openapi.json": openapi_page.page,
    "docs/messages.md": messages_page.page,
    "docs/passage.md": passage_page.page,
    "docs/reasons.md": reasons,
    "docs/verification.md": verification_page.page,
}


def main(arguments: list[str]) -> int:
    stale = []
    for name, make in PAGES.items():
        path = ROOT / name
        text = make()
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text, "utf-8")
    if stale and "--check" in arguments:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python scripts/generate_docs.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
