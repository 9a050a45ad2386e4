#!/bin/sh
# Puts the controller's access list into force: apply-acl SOURCE TARGET COMMAND [ARGUMENT...]
# COMMAND makes the broker load its files again. SOURCE belongs to the controller, which has no right over the broker's files; so
# every line must be one that controller/acl.py can make for the user above it, whatever the controller has become.
# A list that is refused leaves the one in force. Exit 0: in force; 1: refused or missing; 75: the broker did not load it, try again.
#
# apply-acl again SOURCE TARGET COMMAND [ARGUMENT...] runs COMMAND when SOURCE, or the list of revoked certificates beside TARGET, is
# not the one that was last looked at.
set -eu
export LC_ALL=C
again=no
if [ "$1" = again ]; then
    again=yes
    shift
fi
source=$1 target=$2
shift 2
limit=2097152 # bytes; 1024 gates with the longest names stay below (tests/deploy/test_apply_acl.py)

# Which files stand there. The time is that of the inode's last change: a file is written before it gets its name.
standing() { stat -c '%n %i %z' "$source" "$(dirname "$target")/revoked.crl" 2>/dev/null || true; }

if [ "$again" = yes ]; then
    if [ "$(standing)" != "$(cat "$target.seen" 2>/dev/null)" ]; then exec "$@"; fi
    exit 0
fi

new=$(mktemp "$target.XXXXXX")
trap 'rm -f "$new"' EXIT

# Content is never printed: SOURCE could be a link to any file of this machine.
refuse() {
    echo "access list refused: $1; the one before stays in force" >&2
    return 1
}

check() {
    [ "$(wc -c <"$new")" -le "$limit" ] || refuse "it is larger than $limit bytes" || return 1
    [ "$(tr -d '\n -~' <"$new" | wc -c)" -eq 0 ] || refuse "it has bytes that are no plain text" || return 1
    # awk's last line is the reason, if there is one.
    reason=$(awk '
        function bad(why) { if (!failed) print "line " NR ": " why; failed = 1; exit 1 }
        function name(text) { return length(text) <= 63 && text ~ /^[a-z0-9][a-z0-9-]*$/ }
        BEGIN {
            split("evt alarm state online health res", up); split("ack replay cmd", down); split("time emergency", all)
        }
        /^$/ || /^#/ { next }
        /^user / {
            user = substr($0, 6)
            if (!name(user) || user == "all") bad("no name of a gate")
            if (user in seen) bad("a user for the second time")
            seen[user] = 1
            next
        }
        /^topic (read|write) pacs\/1\// {
            if (user == "") bad("a right of nobody")
            split($0, part, "/")
            if (site == "") site = part[3]
            if (!name(site)) bad("no name of a site")
            root = "pacs/1/" site "/"
            if (user == "controller") {
                for (at in up) if ($0 == "topic read " root "+/" up[at]) next
                for (at in down) if ($0 == "topic write " root "+/" down[at]) next
                for (at in all) if ($0 == "topic write " root "all/" all[at]) next
                if ($0 == "topic read " root "all/emergency") next
                bad("no right of the controller")
            }
            for (at in up) if ($0 == "topic write " root user "/" up[at]) next
            for (at in down) if ($0 == "topic read " root user "/" down[at]) next
            for (at in all) if ($0 == "topic read " root "all/" all[at]) next
            if ($0 == "topic write " root user "/zone/+/tag") next
            if ($0 == "topic read " root "+/zone/+/tag") next
            bad("no right of this gate")
        }
        { bad("not a line of an access list") }
        END { if (!failed && !("controller" in seen)) { print "the controller is missing"; exit 1 } }
    ' "$new") || refuse "${reason:-it could not be read}"
}

status=0
# Before anything is read: what changes from here on is seen by `again`.
standing >"$target.seen"
if [ -f "$source" ] && head -c $((limit + 1)) "$source" >"$new" && check; then
    if ! cmp -s "$new" "$target"; then
        chmod 644 "$new"
        sync "$new"
        mv -f "$new" "$target"
    fi
else
    [ -f "$source" ] || echo "there is no access list at $source" >&2
    status=1
fi
# In any case: a list of revoked certificates may have changed too.
"$@" || [ "$status" -ne 0 ] || status=75
exit "$status"
