#!/usr/bin/env bash
# The same test on two clients that are late and on two that are not: `chaosfs run` in front of it is all it needs.
# Takes about two seconds.
. "$(dirname "$0")/../lib.sh"

race=$repository/demo/race/test.sh

# run_test FLAG...: sets $said and $code.
run_test() {
    code=0
    said=$("$chaosfs" run --seed 1 --log-dir "$work/logs" "$@" -- "$race" 2>"$work/report") || code=$?
    echo "  $said"
}

echo "  chaosfs run --clock manual -- demo/race/test.sh"
run_test --clock manual
first="$code $said"
check "the test finds that both workers got the job" test "$code $said" = \
    "1 the job should be worker one's alone; it has been given to: one two"
check "the failure is told with its seed" grep -q ' seed=1 ' "$work/report"
for ((try = 2; try <= 20; try++)); do
    run_test --clock manual >/dev/null
    [[ "$code $said" == "$first" ]] || break
done
check "twenty times the same" test "$try" = 21
echo "  chaosfs run --write-delay 0 --rename-delay 0 -- demo/race/test.sh"
run_test --write-delay 0 --rename-delay 0
check "where the storage decides, one worker got it" test "$code" = 0
finish
