"""`make fuzz ARGS="--seconds 60 response"`: coverage-guided fuzzing of one target with atheris.

Seeds come from our own code, and from the shared vectors where they lie beside the checkout. New inputs are kept in
.fuzz/<target>/ and used again. A finding is written there as crash-*, and ends the run with a status other than 0.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

CORPUS = Path(".fuzz")


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description="퍼징 / fuzz one parser")
    parser.add_argument("target", nargs="?", choices=names, help="대상 / target; 없으면 목록 / none: the list")
    parser.add_argument("--seconds", type=int, default=60, help="시간(초) / how long, seconds")
    parser.add_argument("--max-bytes", type=int, default=4096, help="입력 최대 길이 / longest input, bytes")
    return parser.parse_args()


def main() -> int:
    try:
        import atheris
    except ImportError:
        print("atheris가 설치되어 있지 않습니다. / atheris is not installed: pip install -e .[dev]", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["mdoc", "card"]):
        from fuzz import targets, vectors
    arguments = _arguments(sorted(targets.TARGETS))
    if arguments.target is None:
        print("\n".join(sorted(targets.TARGETS)))
        return 0
    target = targets.TARGETS[arguments.target]
    corpus = CORPUS / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    for data in targets.seeds(arguments.target) + vectors.seeds(arguments.target):
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    options = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={arguments.seconds}",
        f"-max_len={arguments.max_bytes}",
        f"-artifact_prefix={corpus}{os.sep}",
        "-timeout=5",
    ]
    atheris.Setup(options, lambda data: targets.attempt(target, data))
    atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
