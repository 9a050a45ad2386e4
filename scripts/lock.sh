#!/usr/bin/env bash
# Writes every lock file anew from pyproject.toml, with hashes and without a host. Needs uv (a developer's tool, not needed to
# run the project). `scripts/lock.sh --upgrade` takes newer versions; without it the locked ones stay where they still fit.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v uv >/dev/null 2>&1 || {
    echo "uv가 필요합니다 / uv is needed: pip install uv" >&2
    exit 2
}

compile() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate "$@" >/dev/null; }

compile --extra gate --extra controller --extra testbed --extra dev "$@" pyproject.toml -o requirements.lock
# Other readers, which only `make bench` installs: they drag in much that nothing else needs.
compile --extra bench -c requirements.lock "$@" pyproject.toml -o bench/peers.lock
# PC/SC: built from source with swig and a C compiler, by the sites and tests that want it.
compile --extra pcsc -c requirements.lock "$@" pyproject.toml -o deploy/pcsc.lock
# What builds the project and the one locked package that comes as source.
printf 'editables\nhatchling\nsetuptools>=80\n' | compile "$@" - -c requirements.lock -o requirements-build.lock
# What a gate and a controller install: subsets of requirements.lock (tests/test_frame.py holds them to it).
compile --extra gate -c requirements.lock pyproject.toml -o deploy/gate.lock
compile --extra controller -c requirements.lock pyproject.toml -o deploy/controller.lock
