#!/usr/bin/env bash
# Makes the virtual environment and installs the locked packages. Usage: scripts/venv.sh VENV
# Every file is checked against its hash. One locked package (pydes) comes as source only: it is built with the tools of
# requirements-build.lock, installed first, so that pip fetches nothing outside the locks (--no-build-isolation).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?"VENV"}
python=${PYTHON:-python3}

fail() {
    printf '\n%s\n\n' "$1" >&2
    exit 2
}

command -v "$python" >/dev/null 2>&1 || fail "Python 3.11 이상이 필요합니다: sudo apt-get install python3-venv
Python 3.11 or newer is needed: sudo apt-get install python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 이상이 필요합니다. 지금: $("$python" --version)
Python 3.11 or newer is needed; this is $("$python" --version)"

if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    echo "가상 환경을 만듭니다 / making the virtual environment: $venv"
    rm -rf "$venv"
    log=$("$python" -m venv "$venv" 2>&1) || fail "$log

가상 환경을 만들 수 없습니다: sudo apt-get install python3-venv
The virtual environment cannot be made: sudo apt-get install python3-venv"
fi

echo "잠긴 버전의 패키지를 설치합니다 / installing the locked packages"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip install -qq --require-hashes --only-binary :all: -r requirements-build.lock
pip install -qq --require-hashes --no-build-isolation --use-pep517 -r requirements.lock
