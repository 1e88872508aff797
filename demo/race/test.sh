#!/bin/sh
# A test of a program that hands out jobs on shared storage: of two workers on two hosts, one gets the job. The same test
# in Rust is race.rs, in Python race.py.
#
#   chaosfs run --clock manual -- demo/race/test.sh                                          fails: both get it
#   chaosfs run --clock manual --write-delay 0 --rename-delay 0 -- demo/race/test.sh         passes
set -eu

# The program: takes a job with mkdir, as on a local disk, where that is safe. Says who has it.
take() {
    mkdir "$1/job" 2>/dev/null || return 0
    echo "$2" >"$1/job/owner"
    echo "$2"
}

given=$(take "$CHAOSFS_MOUNT_A" one; take "$CHAOSFS_MOUNT_B" two)
chaosfs advance 2s --backing "$CHAOSFS_BACKING" >/dev/null
echo "given to:" $given "- in the end it is the job of" "$(cat "$CHAOSFS_BACKING/job/owner")"
test "$given" = one
