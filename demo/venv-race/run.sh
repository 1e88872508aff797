#!/usr/bin/env bash
# Two hosts create the same Python virtualenv on shared storage. They take a lock first, which is right on a local disk,
# and right here with all knobs at zero. At the default knobs both get the lock. Takes about 20 seconds.
. "$(dirname "$0")/../lib.sh"
here=$repository/demo/venv-race

# Nothing of what this user has set for Python and pip.
unset PYTHONPATH PYTHONHOME "${!PIP_@}"

python3 -c 'import venv, ensurepip' 2>/dev/null || {
    echo "this demo needs Python's venv: apt-get install python3-venv" >&2
    exit 1
}

# race SETTING FLAG...: both hosts start at once; sets $verdict to what the verifier makes of it.
race() {
    local setting=$1 host hosts=() programs=() program
    shift
    echo "$setting"
    for host in a b; do mount_client "$host" "$@"; done
    for host in a b; do
        start python3 -I "$here/bootstrap.py" "$work/$host" "$host" >"$work/$host.json"
        programs+=($!)
        hosts+=("$host=$work/$host=$work/$host.json=$work/$host.log")
    done
    for program in "${programs[@]}"; do wait "$program" || echo "    (a host gave up)"; done
    umount_clients >/dev/null
    wait "$comparison"
    verdict=0
    python3 -I "$here/verify.py" "$work/plain/venv" "$work/shared" "${hosts[@]}" || verdict=$?
    rm -rf "${work:?}"/{shared,*.json,*.log}
    echo
}

# What it is compared with: the same on a plain directory. Made while the first race runs.
start python3 -I -m venv "$work/plain/venv"
comparison=$!

race "All knobs at zero:" --meta-ttl 0 --write-delay 0 --rename-delay 0
check "with all knobs at zero the virtualenv is whole" test "$verdict" = 0
echo
race "The default knobs:"
check "at the default knobs it is broken" test "$verdict" = 1
finish
