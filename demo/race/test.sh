#!/bin/sh
# A test of a program that hands out jobs on shared storage: of two workers on two hosts, one gets the job.
#
#   chaosfs run --clock manual -- demo/race/test.sh                          fails: both get it
#   chaosfs run --write-delay 0 --rename-delay 0 -- demo/race/test.sh       passes
set -eu

# The program: takes a job with mkdir, as on a local disk, where that is safe. Says who has it.
take() {
    mkdir "$1/job" 2>/dev/null && echo "$2"
}

got=$(take "$CHAOSFS_MOUNT_A" one || true; take "$CHAOSFS_MOUNT_B" two || true)

if [ "$got" != one ]; then
    echo "the job should be worker one's alone; it has been given to:" $got
    exit 1
fi
echo "worker one has the job, worker two has not"
