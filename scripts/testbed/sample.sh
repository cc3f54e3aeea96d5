# What a host uses, once a second until it is told to stop: run by scripts/cluster on every host.
#
# Raw lines of /proc, read back by scripts/testbed/usage.py: of the host, and of each process whose number stands in a
# *.pid of this folder. Nothing but the shell and sleep, so that who watches costs next to nothing.
read -r up idle </proc/uptime
echo "clock $(date +%s.%N) $up"
echo "ticks $(getconf CLK_TCK) $(getconf PAGESIZE)"
lines_of() {
    while read -r line; do
        echo "$1 $line"
    done 2>/dev/null <"$2"
}
while :; do
    read -r up idle </proc/uptime
    echo "up $up"
    read -r line </proc/stat
    echo "stat $line"
    lines_of mem /proc/meminfo
    lines_of net /proc/net/dev
    for port in /sys/class/infiniband/*/ports/*/counters; do
        [ -r "$port/port_rcv_data" ] || continue
        read -r received <"$port/port_rcv_data"
        read -r sent <"$port/port_xmit_data"
        echo "verbs $received $sent"
    done
    for file in *.pid; do
        [ -r "$file" ] || continue
        read -r pid <"$file" || continue
        echo "process ${file%.pid}"
        lines_of pstat "/proc/$pid/stat"
        lines_of pmem "/proc/$pid/statm"
        lines_of pnet "/proc/$pid/net/dev"
    done
    sleep 1
done
