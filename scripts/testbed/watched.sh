# A process that ends with whoever started it: `sh watched.sh NAME COMMAND...`, run by scripts/cluster on every host.
#
# When standard input ends (it is closed, its writer has died, ssh has lost the other side) the command gets SIGTERM,
# and SIGKILL after 15 s. What is written there until then is the command's. While it lives its number is in NAME.pid.
name=$1
shift
rm -f "$name.in" && mkfifo "$name.in" && exec 3<&0 4<>"$name.in" || exit 125
"$@" <"$name.in" 3<&- 4>&- &
pid=$!
echo "$pid" >"$name.pid"
(
    cat <&3 >&4
    kill "$pid"
    for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        sleep 1
        kill -0 "$pid" || exit
    done
    kill -9 "$pid"
) >/dev/null 2>&1 &
watch=$!
wait "$pid"
code=$?
kill "$watch"
rm -f "$name.pid" "$name.in"
exit "$code"
