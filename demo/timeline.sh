#!/usr/bin/env bash
# The race visualiser. Client `a` writes, changes, renames and removes a file; client `b` looks all the time. Prints
# what happened on each of them and in the backing directory, when, and how late `b` was. Takes about 7 seconds.
#
# Knobs come from the usual variables: CHAOSFS_META_TTL_MS=0 demo/timeline.sh
. "$(dirname "$0")/lib.sh"

mount_client a
mount_client b
cd "$work"

now() { # sets $now: microseconds since the start
    local time=${EPOCHREALTIME/[.,]/}
    now=$((time - start))
}
start=0
now
start=$now

row() { # TIME-us A BACKING B LATE
    printf '%8s ms | %-24s | %-24s | %-24s | %s\n' "$(($1 / 1000))" "$2" "$3" "$4" "$5"
}

# Sets $seen to the content of one file as one view has it. Without any other program, so that looking takes no time.
look() {
    seen=gone
    { IFS= read -r seen <"$1"; } 2>/dev/null || true
    [[ -n $seen ]] || seen=empty
}

declare -A last=()
stale_reads=0 reads=0 too_early=0 too_late=0 caught_up=0

# until_caught_up NAME CONTENT DUE: prints what changes until `b` sees that file so, and judges when that was.
until_caught_up() {
    local name=$1 wanted=$2 due=$3 side file backing=''
    while true; do
        for side in shared b; do
            for file in report.txt final.txt; do
                look "$side/$file"
                now
                [[ $side/$file == "shared/$name" ]] && backing=$seen
                if [[ $side == b && $file == "$name" ]]; then
                    reads=$((reads + 1))
                    [[ $seen == "$wanted" ]] || stale_reads=$((stale_reads + 1))
                fi
                [[ ${last[$side/$file]:-gone} == "$seen" ]] && continue
                last[$side/$file]=$seen
                if [[ $side == shared ]]; then
                    row "$now" '' "$file: $seen" '' ''
                                    else
                    row "$now" '' '' "$file: $seen" "$(((now - acted) / 1000)) ms late"
                fi
            done
        done
        if [[ ${last[b/$name]:-gone} == "$wanted" && $backing == "$wanted" ]]; then
            caught_up=$((caught_up + 1))
            ((now - acted >= due * 1000)) || too_early=$((too_early + 1))
            ((now - acted <= (most + 1500) * 1000)) || too_late=$((too_late + 1))
            return
        fi
        now
        if ((now - acted > (most + 5000) * 1000)); then
            too_late=$((too_late + 1))
            return
        fi
        sleep 0.02
    done
}

# The knobs in force, in milliseconds. Of a range the shortest decides what is too early, the longest what is too late.
shortest() { local value=${1%%..*}; echo "${value%ms}"; }
longest() { local value=${1##*..}; echo "${value%ms}"; }
ttl=$(longest "$(knob meta_ttl a.log)")
write=$(knob write_delay a.log)
rename=$(knob rename_delay a.log)
most=$(($(longest "$write") > $(longest "$rename") ? $(longest "$write") : $(longest "$rename")))
most=$((most + ttl))

act() { # WORDS COMMAND...
    local words=$1
    shift
    now
    acted=$now
    row "$now" "$words" '' '' ''
    "$@"
}
put() { echo "$1" >"$2"; }

cat <<END

Two clients of one directory. A belief lives $ttl ms; others see data after $write, names after $rename.

$(printf '%11s | %-24s | %-24s | %-24s | %s' 'time' 'client a does' 'backing directory has' 'client b sees' '')
------------|--------------------------|--------------------------|--------------------------|-------------
END

# A look before anything is there: from now on `b` believes that there is nothing.
look b/report.txt
look b/final.txt
now

act 'writes report.txt: one' put one a/report.txt
until_caught_up report.txt one "$(shortest "$write")"
act 'writes report.txt: two' put two a/report.txt
until_caught_up report.txt two "$(shortest "$write")"
act 'renames it to final.txt' mv a/report.txt a/final.txt
until_caught_up final.txt two "$(shortest "$rename")"
until_caught_up report.txt gone "$(shortest "$rename")"
act 'removes final.txt' rm a/final.txt
until_caught_up final.txt gone "$(shortest "$rename")"

cat <<END

b looked $reads times; $stale_reads of its answers were older than what a had already done.

END
cd /
umount_clients >/dev/null
check "b came to see all five outcomes" test "$caught_up" = 5
check "none of them before it was due" test "$too_early" = 0
check "none of them later than the delay plus the time a belief lives" test "$too_late" = 0
if ((most > 0)); then
    check "b was given stale answers" test "$stale_reads" -gt 0
else
    check "with all knobs at zero no answer was stale" test "$stale_reads" = 0
fi
finish
