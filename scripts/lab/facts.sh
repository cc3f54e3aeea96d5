# Facts: commands that have to succeed, each under a name. Sourced by the lab's tests, on the host and inside.
#
#   fact 'what holds' COMMAND...    runs it, and shows its output where it fails
#   wait_for COMMAND...             until it succeeds; fails after 120 s
#   closing_facts                   `N passed, M failed`; fails where a fact did

facts_passed=0
facts_failed=0

fact() {
    local name=$1 output status began=$SECONDS
    shift
    # Not behind `||`: bash would ignore errexit inside the command.
    set +e
    output=$(
        set -e
        "$@" 2>&1
    )
    status=$?
    set -e
    if ((status == 0)); then
        facts_passed=$((facts_passed + 1))
        printf 'ok      %s (%d s)\n' "$name" $((SECONDS - began))
    else
        facts_failed=$((facts_failed + 1))
        printf 'FAILED  %s (%d s): exit code %d\n%s\n' "$name" $((SECONDS - began)) "$status" "$output"
    fi
}

wait_for() {
    local deadline=$((SECONDS + 120))
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > deadline)); then
            echo "still not after 120 s: $*"
            return 1
        fi
        sleep 0.1
    done
}

closing_facts() {
    printf '%d passed, %d failed\n' "$facts_passed" "$facts_failed"
    ((facts_failed == 0))
}
