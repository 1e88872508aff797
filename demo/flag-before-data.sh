#!/usr/bin/env bash
# A classic that works on every local disk: write the data under another name, rename it into place, then make a flag
# file that says it is there. On storage without an order between files, the reader finds the flag before the data.
# Takes about a second for both settings.
. "$(dirname "$0")/lib.sh"

# publish VIEW: the writer's program.
publish() {
    echo "the result of a long computation" >"$1/data.tmp"
    mv "$1/data.tmp" "$1/data"
    touch "$1/ready"
}

# consume VIEW: the reader's program. Prints what it got.
consume() {
    local tries=0
    until [[ -e $1/ready ]]; do
        ((tries += 1))
        ((tries < 500)) || { echo "never ready"; return; }
        sleep 0.02
    done
    cat "$1/data" 2>/dev/null || echo "ready, but there is no data"
}

# run_once SETTING FLAG...: sets $got.
run_once() {
    local setting=$1
    shift
    mount_client a "$@"
    mount_client b "$@"
    start publish "$work/a"
    got=$(consume "$work/b")
    wait
    umount_clients >/dev/null
    printf '  %-34s  the reader got: %s\n' "$setting" "$got"
    local in_the_end
    in_the_end=$(<"$work/shared/data")
    rm -rf "$work/shared"
    [[ $in_the_end == "the result of a long computation" ]] || { echo "the data itself was lost"; exit 1; }
}

# New files are seen after 0.8 s (the default), names after 3 s. Nothing is believed, so that the order is the store's.
run_once "new files 0.8 s, names 3 s late" --meta-ttl 0 --rename-delay 3s
check "the flag was seen before the data" test "$got" = "ready, but there is no data"
run_once "all knobs at zero" --meta-ttl 0 --write-delay 0 --rename-delay 0
check "flag and data were seen in order" test "$got" = "the result of a long computation"
finish
