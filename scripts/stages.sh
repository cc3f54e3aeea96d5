# Stages with their times and one closing report. Sourced by scripts/verify and scripts/nightly.
#
#   stage NAME COMMAND...     runs a command, shows its output, notes its time and whether it failed
#   begin NAME COMMAND...     begins a command beside the stages that come; `stage NAME ended NAME` waits for it
#   not_run NAME REASON       notes a stage, or all those whose names begin with NAME-, that this machine cannot run
#   closing_report            the table of stages, the lines of the test runners, `N passed, M failed`
#
# Whoever wants NAME gets NAME-A and NAME-B too; who wants what is no stage has failed.
#
# A command that ends with 77 says that this machine cannot run it, and in its last line why. CI has no such machines:
# there it has failed.
#
# A stage that fails does not stop the others: one run shows everything that is wrong.

stage_logs=$(mktemp -d)
trap 'rm -rf "$stage_logs"' EXIT
stage_lines=()
stages_failed=0
stages_wanted=("$@")
stages_known=()
stages_found=

stage() {
    local name=$1 began=$SECONDS outcome=ok status
    shift
    is_wanted "$name" || return 0
    printf '\n==> %s\n' "$name"
    # Not behind `||`: bash would ignore errexit inside the command.
    set +e
    (
        set -e
        "$@"
    ) </dev/null 2>&1 | tee "$stage_logs/$name"
    status=${PIPESTATUS[0]}
    set -e
    if ((status == 77)) && [[ ${CI:-} != true ]]; then
        outcome="not run: $(tail -n 1 "$stage_logs/$name" | sed 's/^not run: //')"
    elif ((status != 0)); then
        outcome="FAILED ($status)"
        stages_failed=$((stages_failed + 1))
    fi
    stage_lines+=("$(printf '%-20s %5d s   %s' "$name" $((SECONDS - began)) "$outcome")")
}

begin() {
    local name=$1
    shift
    is_wanted "$name" || return 0
    (
        status=0
        "$@" >"$stage_logs/$name.said" 2>&1 </dev/null || status=$?
        echo $status >"$stage_logs/$name.ended"
    ) &
}

# Waits for what was begun, and shows what it said.
ended() {
    until [[ -s $stage_logs/$1.ended ]]; do
        sleep 0.2
    done
    cat "$stage_logs/$1.said"
    return "$(<"$stage_logs/$1.ended")"
}

not_run() {
    local wanted found=1
    ! is_wanted "$1" || found=0
    # One of them, by its own name.
    for wanted in "${stages_wanted[@]}"; do
        if [[ $wanted == "$1"-* ]]; then
            stages_found+=" $wanted "
            found=0
        fi
    done
    ((found == 0)) || return 0
    printf '\n==> %s\nnot run: %s\n' "$1" "$2"
    stage_lines+=("$(printf '%-20s %5s     not run: %s' "$1" - "$2")")
}

# With arguments only those stages run, else all. Notes which of the arguments are stages.
is_wanted() {
    local wanted found=1
    stages_known+=("$1")
    ((${#stages_wanted[@]} > 0)) || return 0
    for wanted in "${stages_wanted[@]}"; do
        if [[ $1 == "$wanted" || $1 == "$wanted"-* ]]; then
            stages_found+=" $wanted "
            found=0
        fi
    done
    return $found
}

closing_report() {
    local passed failed
    echo
    refuse_unknown
    printf '%s\n' "${stage_lines[@]}"
    printf '%-20s %5d s\n\n' total "$SECONDS"
    closing_lines
    passed=$(count_of passed)
    failed=$(count_of failed)
    # A stage that fails without a failed test (a lint, a build) counts as one.
    if ((stages_failed > failed)); then
        failed=$stages_failed
    fi
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    ((stages_failed == 0))
}

# A stage that was mistyped has not passed.
refuse_unknown() {
    local name
    for name in "${stages_wanted[@]}"; do
        if [[ $stages_found != *" $name "* ]]; then
            echo "there is no stage '$name', but: ${stages_known[*]}" >&2
            stages_failed=$((stages_failed + 1))
        fi
    done
}

# What nextest, cargo test and our own Python tests close with.
closing_lines() {
    grep -shE '^ *Summary \[|^test result:|^[0-9]+ passed, [0-9]+ failed$' "$stage_logs"/* || true
}

# The sum of "N passed", or "N failed" and "N timed out", over the closing lines.
count_of() {
    local words=$1
    [[ $words == failed ]] && words='failed|timed out|exec failed'
    closing_lines |
        { grep -oE "[0-9]+ ($words)" || true; } |
        awk '{ sum += $1 } END { print sum + 0 }'
}
