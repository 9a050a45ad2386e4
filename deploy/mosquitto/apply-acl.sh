#!/usr/bin/env bash
# Hands the controller's access list to the broker. Run as root by gwanmun-broker.service when the list changes; the controller
# itself has no right here. Only lines of the forms below are taken: a controller that was taken over can give and take the
# gates' rights, which it could anyway, and nothing else of the broker.
# Usage: apply-acl.sh [FROM [TO]]. Exit 0: handed over, or nothing new; 1: refused, the old list stays.
set -euo pipefail
from=${1:-/var/lib/gwanmun/controller/broker/acl}
to=${2:-/etc/mosquitto/gwanmun/acl}
max_bytes=$((4 * 1024 * 1024))

refuse() {
    printf '접근 목록을 받지 않습니다: %s\naccess list refused: %s\n' "$1" "$2" >&2
    exit 1
}

[ -f "$from" ] && [ ! -L "$from" ] || refuse "파일이 없습니다" "there is no file $from"
new=$(mktemp "$(dirname "$to")/.acl.XXXXXX")
trap 'rm -f "$new"' EXIT
# A copy first: what is checked is what is handed over.
head -c "$((max_bytes + 1))" <"$from" >"$new"
[ "$(stat -c %s "$new")" -le "$max_bytes" ] || refuse "너무 큽니다" "too large"
id='[a-z0-9][a-z0-9-]{0,62}'
level="(\\+|$id)"
leaf='(evt|alarm|state|online|health|ack|replay|time|zone/\+/tag)'
if LC_ALL=C grep -avnE "^(#[ -~]*|user $id|topic (read|write) pacs/1/$id/$level/$leaf|)\$" "$new" >/dev/null; then
    refuse "모르는 줄이 있습니다" "line $(LC_ALL=C grep -avnE "^(#[ -~]*|user $id|topic (read|write) pacs/1/$id/$level/$leaf|)\$" "$new" | head -n 1 | cut -d: -f1) is of no known form"
fi
if cmp -s "$new" "$to"; then exit 0; fi
chmod 644 "$new"
sync "$new"
mv -f "$new" "$to"
trap - EXIT
echo "handed over: $(LC_ALL=C grep -c '^user ' "$to") clients"
