# What every demo needs: a folder of its own, the binary, clients, and an end that leaves nothing behind.
# Source it: . "$(dirname "$0")/lib.sh"

set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The binary: $CHAOSFS, else the one built here (built now if need be), else the one on the PATH.
if [[ -n ${CHAOSFS:-} ]]; then
    chaosfs=$CHAOSFS
elif command -v cargo >/dev/null; then
    echo "building chaosfs ..." >&2
    built=$(cd "$repository" && cargo build --release 2>&1) || { echo "$built" >&2; exit 1; }
    chaosfs=${CARGO_TARGET_DIR:-$repository/target}/release/chaosfs
elif [[ -x $repository/target/release/chaosfs ]]; then
    chaosfs=$repository/target/release/chaosfs
elif ! chaosfs=$(command -v chaosfs); then
    echo "no chaosfs: set CHAOSFS to the binary, or install Rust (\`./setup\` does)" >&2
    exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/chaosfs-demo.XXXXXX")

# start COMMAND...: in the background, in a process group of its own, so that its children can be ended with it.
start() {
    set -m
    "$@" &
    set +m
}

# Ends what was started, unmounts every client below the folder, and removes the folder once it is nothing but that.
clean_up() {
    local code=$? job try
    trap - EXIT
    trap '' INT TERM HUP
    for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done
    wait 2>/dev/null || true
    cd /
    # What has just been ended may hold a mount for a moment longer.
    for try in {1..50}; do
        grep -qF " $work/" /proc/self/mountinfo || break
        ((try == 1)) || sleep 0.1
        "$chaosfs" umount --mount-base "$work" >/dev/null 2>&1 || true
    done
    if grep -qF " $work/" /proc/self/mountinfo; then
        echo "a client is still mounted below $work" >&2
        exit 1
    fi
    rm -rf --one-file-system -- "$work"
    exit "$((code != 0))"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

# mount_client NAME [FLAG...]: the backing directory is $work/shared, the view $work/NAME, the log $work/NAME.log.
mount_client() {
    local name=$1
    shift
    mkdir -p "$work/shared" "$work/$name"
    "$chaosfs" mount "$work/shared" "$work/$name" --client-id "$name" --log-file "$work/$name.log" --background "$@"
}

umount_clients() {
    "$chaosfs" umount --mount-base "$work"
}

# knob NAME LOG: the value of a knob as the first line of a log has it, such as 800ms or 500ms..1200ms.
knob() {
    sed -n "/ event=start /{s/.* $1=\([^ ]*\).*/\1/p;q}" "$2"
}

failures=0

# check WHAT COMMAND...: says whether it holds; the demo fails in the end if one does not.
check() {
    local what=$1
    shift
    if "$@"; then
        echo "  ok    $what"
    else
        echo "  WRONG $what"
        failures=$((failures + 1))
    fi
}

finish() {
    if ((failures > 0)); then
        echo "$failures of the things promised did not show."
        exit 1
    fi
    echo "Shown as promised."
}
