#!/usr/bin/env bash
# The same test in sh, Rust and Python: two clients whose time is moved by hand, 200 times each, one outcome. And once
# on clients that are not late. Takes about twenty seconds, and a minute more where the Rust one is to be built.
. "$(dirname "$0")/../lib.sh"

race=$repository/demo/race
mkdir "$work/bin"
ln -s "$(realpath "$chaosfs")" "$work/bin/chaosfs"
PATH=$work/bin:$PATH
both="given to: one two - in the end it is the job of two"

# outcomes COMMAND...: runs it and says which lines it printed, and how often each.
outcomes() {
    local counted
    counted=$("$@" | sort | uniq -c | sed 's/^ *//')
    sed 's/^/  /' <<<"$counted" >&2
    echo "$counted"
}

in_sh() {
    for ((try = 1; try <= 200; try++)); do
        chaosfs run --clock manual --log-dir "$work/logs" -- "$race/test.sh" 2>/dev/null || true
    done
}

in_rust() {
    cargo run --quiet --manifest-path "$repository/Cargo.toml" --example race -- 200
}

in_python() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$repository/python/src CHAOSFS=$work/bin/chaosfs python3 "$race/race.py" 200
}

code=0
said=$(chaosfs run --clock manual --seed 1 --log-dir "$work/logs" -- "$race/test.sh" 2>"$work/report") || code=$?
echo "  chaosfs run --clock manual -- demo/race/test.sh"
check "the test finds that both workers got the job" test "$code $said" = "1 $both"
check "the failure is told with its seed" grep -q ' seed=1 ' "$work/report"

echo "  chaosfs run --clock manual --write-delay 0 --rename-delay 0 -- demo/race/test.sh"
said=$(chaosfs run --clock manual --write-delay 0 --rename-delay 0 -- "$race/test.sh") || said="failed: $said"
check "where the storage decides, one worker got it" \
    test "$said" = "given to: one - in the end it is the job of one"

check "200 times in sh, one outcome" test "$(outcomes in_sh)" = "200 $both"
if command -v cargo >/dev/null; then
    check "200 times in Rust, the same" test "$(outcomes in_rust)" = "200 $both"
else
    echo "  left out: the same in Rust; there is no cargo here"
fi
check "200 times in Python, the same" test "$(outcomes in_python)" = "200 $both"
finish
