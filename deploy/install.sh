#!/usr/bin/env bash
# Installs a gate or a building controller on a Debian 12 machine from this checkout. See docs/install.md.
# Code goes into /opt/gwanmun/releases (one directory a version, switched by a symbolic link, the one before is kept),
# configuration into /etc/gwanmun (never overwritten), data into /var/lib/gwanmun. Running it again changes only what differs.
set -euo pipefail
src=$(cd "$(dirname "$0")/.." && pwd)
etc=/etc/gwanmun
opt=/opt/gwanmun
lib=/usr/local/lib

say() { printf '%s\n%s\n' "$1" "$2"; }
die() {
    printf '오류: %s\nerror: %s\n' "$1" "$2" >&2
    exit 2
}
usage() {
    cat <<'USAGE'
사용법 / usage: deploy/install.sh --role gate|controller [OPTION...]

  --role ROLE      gate: 게이트 에이전트 / gate agent; controller: 건물 관제 서버와 브로커 / building controller and broker
  --config FILE    설정 파일을 /etc/gwanmun에 복사 / copy this configuration to /etc/gwanmun
  --wheels DIR     폐쇄망: 패키지를 이 디렉터리에서만 설치 / closed network: take packages from this directory only
  --start          예제 설정이어도 시작 / start even with the example configuration
  --no-start       시작하지 않음 / do not start
  --no-apt         시스템 패키지를 설치하지 않음 / install no system packages
USAGE
}

role= config= wheels= start=auto apt=1
while [ $# -gt 0 ]; do
    case "$1" in
    --role | --config | --wheels)
        [ $# -ge 2 ] || die "$1 뒤에 값이 필요합니다" "$1 wants a value"
        case "$1" in --role) role=$2 ;; --config) config=$2 ;; --wheels) wheels=$2 ;; esac
        shift 2
        ;;
    --start) start=yes; shift ;;
    --no-start) start=no; shift ;;
    --no-apt) apt=0; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "모르는 인자: $1" "unknown argument: $1" ;;
    esac
done
case "$role" in
gate) service=gwanmun-agent packages=(python3 python3-venv libzbar0 libusb-1.0-0 bluez dbus procps tzdata) keys=(gate/reader.key gate/mqtt.key) ;;
controller) service=gwanmun-controller packages=(python3 python3-venv mosquitto procps) keys=(controller/mqtt.key controller/records.key broker/broker.key) ;;
*) usage >&2; die "--role gate 또는 --role controller가 필요합니다" "--role gate or --role controller is needed" ;;
esac
[ "$(id -u)" -eq 0 ] || die "root로 실행하십시오: sudo deploy/install.sh ..." "run as root: sudo deploy/install.sh ..."
[ -z "$config" ] || [ -f "$config" ] || die "설정 파일이 없습니다: $config" "there is no configuration file $config"
[ -z "$wheels" ] || wheels=$(cd "$wheels" 2>/dev/null && pwd) || die "디렉터리가 없습니다" "--wheels: there is no such directory"
command -v systemctl >/dev/null || die "systemd가 필요합니다" "systemd is needed"

# 1. System packages
absent=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || absent+=("$package")
done
if [ ${#absent[@]} -gt 0 ]; then
    [ "$apt" = 1 ] || die "시스템 패키지가 없습니다: apt-get install ${absent[*]}" "system packages are missing: apt-get install ${absent[*]}"
    say "시스템 패키지 설치: ${absent[*]}" "installing system packages: ${absent[*]}"
    apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >/dev/null; }
    apt_get install -y --no-install-recommends "${absent[@]}" || { apt_get update && apt_get install -y --no-install-recommends "${absent[@]}"; } ||
        die "시스템 패키지를 설치하지 못했습니다" "system packages could not be installed"
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 이상이 필요합니다" "Python 3.11 or newer is needed"

# 2. The program, in a directory named after all that went into it
parts=(mdoc card policy protocol drivers gate_agent controller gwanmun pyproject.toml README.md LICENSE)
release=$(cd "$src" && { python3 --version; find "${parts[@]}" requirements-build.lock "deploy/$role.lock" -type f ! -name '*.pyc' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-12)
target=$opt/releases/$role-$release
if [ ! -e "$target/.complete" ]; then
    say "설치: $target" "installing into $target"
    rm -rf "$target"
    mkdir -p "$opt/releases"
    python3 -m venv "$target"
    pip() { "$target/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
    index=()
    [ -z "$wheels" ] || index=(--no-index --find-links "$wheels")
    pip install -qq ${index[@]+"${index[@]}"} --require-hashes --only-binary :all: -r "$src/requirements-build.lock"
    pip install -qq ${index[@]+"${index[@]}"} --require-hashes --no-build-isolation --use-pep517 -r "$src/deploy/$role.lock"
    pip install -qq --no-index --no-deps --no-build-isolation "$src"
    "$target/bin/gwanmun" --version >/dev/null
    touch "$target/.complete"
fi
before=$(readlink -f "$opt/$role" 2>/dev/null || true)
ln -sfn "releases/$role-$release" "$opt/$role.new" && mv -T "$opt/$role.new" "$opt/$role"
for old in "$opt/releases/$role-"*; do
    [ "$old" = "$target" ] || [ "$old" = "$before" ] || rm -rf "$old"
done

# 3. Users, directories, units
changed=0
put() { # put MODE FILE TARGET: copies when it differs
    if ! cmp -s "$2" "$3"; then
        install -D -m "$1" "$2" "$3"
        changed=1
    fi
}
put 644 "$src/deploy/sysusers.d/gwanmun.conf" "$lib/sysusers.d/gwanmun.conf"
put 644 "$src/deploy/tmpfiles.d/gwanmun.conf" "$lib/tmpfiles.d/gwanmun.conf"
for page in "$src"/docs/*.md; do put 644 "$page" "/usr/local/share/doc/gwanmun/${page##*/}"; done
systemd-sysusers "$lib/sysusers.d/gwanmun.conf"
systemd-tmpfiles --create "$lib/tmpfiles.d/gwanmun.conf"
put 644 "$src/deploy/systemd/$service.service" "$lib/systemd/system/$service.service"
if [ "$role" = gate ]; then
    put 644 "$src/deploy/udev/70-gwanmun.rules" /etc/udev/rules.d/70-gwanmun.rules
    put 644 "$src/deploy/modprobe.d/gwanmun.conf" /etc/modprobe.d/gwanmun.conf
    if [ "$changed" = 1 ] && command -v udevadm >/dev/null; then udevadm control --reload 2>/dev/null || true; fi
else
    put 644 "$src/deploy/systemd/mosquitto.service.d/gwanmun.conf" "$lib/systemd/system/mosquitto.service.d/gwanmun.conf"
    # The site's own: put there once, then left alone.
    [ -e /etc/mosquitto/conf.d/gwanmun.conf ] || put 644 "$src/deploy/mosquitto/gwanmun.conf" /etc/mosquitto/conf.d/gwanmun.conf
    # A change of the access list comes into force without root for the controller.
    put 755 "$src/deploy/mosquitto/apply-acl.sh" "$lib/gwanmun/apply-acl"
    for unit in gwanmun-broker.path gwanmun-broker.service gwanmun-broker-again.service; do put 644 "$src/deploy/systemd/$unit" "$lib/systemd/system/$unit"; done
fi
ln -sfn "$opt/$role/bin/gwanmun" /usr/local/bin/gwanmun
systemctl daemon-reload

# 4. Configuration
example=$src/config/$role.toml
file=$etc/$role.toml
if [ -n "$config" ]; then
    cmp -s "$config" "$file" || { install -m 640 -g gwanmun "$config" "$file"; changed=1; }
elif [ ! -e "$file" ]; then
    install -m 640 -g gwanmun "$example" "$file"
fi
if [ "$role" = gate ] && [ ! -e "$etc/policy.toml" ]; then
    install -m 640 -g gwanmun "$src/config/policy.toml" "$etc/policy.toml"
fi
if [ "$role" = controller ]; then
    # Before the broker's first start: without its access list it does not start. The controller's rights alone, and those of the
    # gates that are enrolled already.
    "$opt/controller/bin/gwanmun" gates render --config "$file" >/dev/null
    "$lib/gwanmun/apply-acl" /var/lib/gwanmun/controller/broker/acl /etc/mosquitto/gwanmun/acl true
    systemctl enable --quiet gwanmun-broker.path gwanmun-broker.service
    systemctl start gwanmun-broker.path
fi

# 5. Start
if [ "$start" = auto ]; then
    if cmp -s "$example" "$file"; then
        start=no
        say "$file 은(는) 아직 예제입니다. 고친 뒤 이 스크립트를 다시 실행하십시오." "$file is still the example. Edit it, then run this script again."
    else
        start=yes
    fi
fi
missing=()
for key in "${keys[@]}"; do
    [ -s "$etc/credentials/$key" ] || missing+=("$etc/credentials/$key")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "개인 키가 없습니다: ${missing[*]}" "private keys are missing: ${missing[*]}"
    [ "$start" = no ] || die "키 없이는 시작하지 않습니다" "nothing is started without its keys"
fi
if [ "$start" = yes ]; then
    [ "$role" = gate ] || { systemctl enable --quiet mosquitto && systemctl restart mosquitto; }
    systemctl enable --quiet "$service"
    if [ "$changed" = 1 ] || [ "$before" != "$target" ] || ! systemctl is-active --quiet "$service"; then systemctl restart "$service"; fi
    say "실행 중입니다: systemctl status $service" "running: systemctl status $service"
else
    say "설치했습니다. 시작: systemctl enable --now $service" "installed. To start: systemctl enable --now $service"
fi
