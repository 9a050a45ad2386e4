#!/usr/bin/env bash
# Downloads what deploy/install.sh installs, for a machine without Internet access. Usage: scripts/wheels.sh DIR ROLE...
# ROLE: gate, controller. Every file is checked against its hash; run it on the same Debian release and processor type.
set -euo pipefail
[ $# -ge 2 ] || {
    echo "사용법 / usage: scripts/wheels.sh DIR gate|controller..." >&2
    exit 2
}
mkdir -p "$1"
directory=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."

# A throw-away environment with the locked build tools: pip looks into the one source package (pydes) with them.
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
pip() { "$tools/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip download -qq --require-hashes --only-binary :all: -d "$directory" -r requirements-build.lock
pip install -qq --no-index --find-links "$directory" --require-hashes -r requirements-build.lock
for role in "$@"; do
    pip download -qq --require-hashes --no-build-isolation --use-pep517 -d "$directory" -r "deploy/$role.lock"
done
