"""docs/verification.md: every check of the verifier from its table, what each list's age means, and what is let through."""

from __future__ import annotations

from mdoc.verify import TABLE

_INTRO = """\
제출된 응답을 받아들이기 전에 하는 검사를 순서대로 적었습니다. 하나가 실패해도 나머지를 모두 하며, 이 순서에서 처음 실패한 것이
거절 사유가 됩니다. 문서가 여럿이면 문서마다 모두 통과해야 합니다. `gwanmun inspect`가 같은 표를 응답 하나에 대해 보여 줍니다.

*Every check on a presented response, in order. All of them run even after one has failed; the first failure in this order is the
reason. Of several documents each has to pass. `gwanmun inspect` shows the same table for one response. Clauses are of ISO/IEC
18013-5:2021 unless they say otherwise. Made from the table in `mdoc/verify.py`.*
"""
_INSPECT = """\
## 응답 하나 살펴보기 · Looking at one response

휴대전화가 왜 거절되었는지 알고 싶을 때 씁니다. 응답과 세션 기록은 원본, hex, base64url 어느 것이나 됩니다. 항목의 값은
`--show-values`가 있고 수락된 때에만 보입니다.

*For whoever wonders why a phone was refused. Response and transcript may be raw, hex or base64url. Values of elements are shown
only with `--show-values`, and only of an accepted response.*

```sh
gwanmun inspect response.hex --transcript transcript.hex --trust /etc/gwanmun/trust --at 2026-11-24T09:00:00Z
gwanmun inspect response.hex --transcript transcript.hex --vical list.cbor --vical-root root.pem --doctype org.iso.18013.5.1.mDL
gwanmun inspect response.hex --transcript transcript.hex --roots iaca.pem --status status.cwt --reader-key reader.pem --json
gwanmun inspect response.hex --issuer-only --roots iaca.pem
```

종료 코드는 0 수락, 1 거절, 2 사용법 오류입니다. 세션 기록이 없으면 누가 제출했는지 알 수 없으므로 거절하며,
`--issuer-only`는 발급자의 서명만 보고 그렇게 밝힙니다.

*Exit status: 0 accepted, 1 refused, 2 usage. Without a transcript nobody can tell who presented it, so it is refused;
`--issuer-only` looks at the issuer's part alone and says so.*

"""
_REST = """\
## 신뢰 자료의 나이 · Ages of trust data

나이는 목록이 스스로 밝힌 발급 시각(VICAL의 date, iat, thisUpdate)부터 셉니다. 목록이 스스로 정한 만료 시각(nextUpdate, exp)이
지나면 어디서나 오래된 것이고, 그 전에는 구역의 한도가 정합니다. 오래된 목록도 폐지는 증명합니다. 상태 목록의 ttl은 보여 주기만
합니다.

*Ages count from a list's own issue time. A list past its own expiry is stale everywhere; before that the zone's limit decides.
A list that is too old still proves a revocation. A status list's ttl is shown, not enforced.*

| | |
| --- | --- |
| `issuer_list_stale` | VICAL, `issuers.cose` |
| `crl_stale` | 인증서 폐지 목록 · revocation list of signers |
| `status_stale` | 상태 목록, 식별자 목록 · status list, identifier list |
| `status_unknown` | 목록이 없거나, 그 번호가 없거나, 다른 기관의 목록 · no list, no such entry, or another authority's list |
| `revoked` | 목록의 값이 0(유효)이 아님: 정지(2)도 거절 · any value but 0 (valid), suspended (2) among them |

## 너그럽게 받는 것 · What is let through

실제 지갑이 내보내기 때문에 받아들이는 것과 그 이유입니다. 서명과 해시는 언제나 받은 바이트에 대해 확인합니다.
*What genuine wallets send against the letter of the standard. Signatures and digests are always over the bytes received.*

"""

_TOLERATED = (
    (
        "짧지 않은 CBOR 머리 · CBOR heads longer than needed",
        "여러 라이브러리가 씁니다 · several libraries write them",
    ),
    (
        "보호되지 않은 머리의 모르는 항목 · unknown members of an unprotected header",
        "아무것도 결정하지 않습니다 · nothing rests on them",
    ),
    (
        "COSE 태그 18, 17 · COSE tags 18 and 17",
        "같은 뜻입니다 · they say nothing new",
    ),
    (
        "tdate의 소수 초와 시차 · fractions and offsets in a tdate",
        "올바르게 비교됩니다 · they compare correctly",
    ),
    (
        "붙여 보낸 기기 서명 대상 · a device payload that is attached",
        "기대한 바이트와 같을 때만 · only when equal to the bytes expected",
    ),
    (
        "2³¹보다 큰 digestID · digestIDs above 2³¹",
        "난수로 고르는 발급자가 있습니다 · some issuers draw them at random",
    ),
    (
        "validFrom이 signed보다 이름 · validFrom before signed",
        "내림하는 발급자가 있고, 어떤 검사도 그 순서에 기대지 않습니다 · some issuers round down",
    ),
    (
        "쓰지 않는 deviceMac·deviceSignature의 undefined · undefined for the device proof that is not used",
        "일부 지갑 라이브러리가 씁니다 · some wallet libraries write it",
    ),
    (
        "앞자리 0이 빠진 기기 키 좌표, 이름으로 쓴 Ed25519 · device keys without leading zeros, Ed25519 by its name",
        "발급자가 서명한 같은 키입니다 · it is the same key, signed by the issuer",
    ),
    (
        "1.1판의 모르는 항목 · members of version 1.1",
        "문서로 세지 않습니다 · they do not count as documents",
    ),
)
"""What genuine wallets send against the letter of the standard, and why it is let through."""


def page() -> str:
    lines = [
        "# 검증 · Verification",
        "",
        _INTRO,
        "| 순서 no. | 검사 check | 통과했을 때 what then holds | 조항 clause | 사유 reasons |",
        "| ---: | --- | --- | --- | --- |",
    ]
    for number, row in enumerate(TABLE, 1):
        failures = ", ".join(f"`{failure}`" for failure in row.failures)
        lines.append(f"| {number} | `{row.name}` | {row.ko}<br>*{row.en}* | {row.clause} | {failures} |")
    return "\n".join(lines) + "\n\n" + _INSPECT + _REST + _table()


def _table() -> str:
    rows = ("| 무엇 what | 까닭 why |", "| --- | --- |", *(f"| {what} | {why} |" for what, why in _TOLERATED))
    return "\n".join(rows) + "\n"
