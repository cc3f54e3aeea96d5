# Guests: started together, watched, and their outcome told. Sourced by scripts/rdma-lab.
#
#   guest                                        host, $run/ROLE
#   kernel console --- serial port ------------> console
#   /host/stdout, stderr, out/, booted, exit --> share/     a folder of the host, by 9p: written means arrived
#   lab-exit ------- isa-debug-exit -----------> QEMU's exit code: 33 passed, 35 failed
#
# A guest has passed when both its file `exit` and QEMU say so. QEMU alone ends with 0 for a kernel that panics.

readonly qemu_passed=33 qemu_failed=35
declare -A running=()

run_guests() {
    local role pid status code outcome=0
    for role in "${roles[@]}"; do
        start_guest "$role"
    done
    while ((${#running[@]} > 0)); do
        status=0
        wait -n -p pid "${!running[@]}" || status=$?
        role=${running[$pid]}
        unset "running[$pid]"
        if ((outcome != 0)); then
            say "guest $role ended after the other had failed"
            continue
        fi
        verdict "$role" "$status" || outcome=$?
        if ((outcome != 0 && ${#running[@]} > 0)); then
            # Time to say what became of it, then nobody waits for it.
            sleep 5
            kill "${!running[@]}" 2>/dev/null || true
        fi
    done
    # The readers of output end by themselves when their guest is gone.
    wait
    keep_out
    return "$outcome"
}

start_guest() {
    local role=$1 share=$run/$1/share network=() processors=2 pid
    mkdir -p "$share/out"
    touch "$share/stdout" "$share/stderr"
    if [[ $role != alone ]]; then
        processors=1
        mapfile -t network < <(cable_of "$role")
    fi
    # Always emulated: where /dev/kvm can be opened it may still never run a guest.
    local machine=(-M q35 -accel "tcg,thread=multi" -cpu max -smp "$processors" -m "$memory_mib"
        -nodefaults -no-user-config -display none -monitor none -no-reboot
        -serial "file:$run/$role/console" -device "isa-debug-exit,iobase=0xf4,iosize=0x04"
        -virtfs "local,path=$share,mount_tag=host,security_model=none"
        -kernel "$cache/kernel/vmlinux" -initrd "$run/initrd")
    # On a busy machine the kernel's test of its timer can fail, and it panics: it may trust an emulated one.
    local options="console=ttyS0 panic=-1 no_timer_check tsc=reliable mitigations=off random.trust_cpu=on"
    env -C "$run" timeout -k 5 "$timeout_s" qemu-system-x86_64 "${machine[@]}" "${network[@]}" \
        -append "$options $(addresses_of "$role")" </dev/null >"$run/$role/qemu" 2>&1 &
    pid=$!
    running[$pid]=$role
    follow "$share/stdout" "$pid" "$role" &
    follow "$share/stderr" "$pid" "$role" >&2 &
}

# What the kernel does not know of its command line it puts into the environment of init.
addresses_of() {
    case $1 in
    alone) set -- "$1" 10.77.0.1 10.77.0.2 10.77.0.1,10.77.0.2,10.77.0.3,10.77.0.4 ;;
    first) set -- "$1" 10.77.0.1 10.77.0.2 10.77.0.1 ;;
    second) set -- "$1" 10.77.0.2 10.77.0.1 10.77.0.2 ;;
    esac
    echo "FREIGHT_LAB_ROLE=$1 FREIGHT_RDMA_ADDRESS=$2 FREIGHT_RDMA_PEER_ADDRESS=$3 FREIGHT_RDMA_ADDRESSES=$4"
}

# Datagram sockets, one an end: a guest that is gone loses packets and nothing else. Their paths have to be short.
cable_of() {
    local other=first number=2
    [[ $1 == second ]] || other=second number=1
    printf '%s\n' \
        -netdev "dgram,id=cable,local.type=unix,local.path=$1/end,remote.type=unix,remote.path=$other/end" \
        -device "virtio-net-pci,netdev=cable,romfile=,mac=52:54:00:00:00:0$number"
}

# The file from its beginning, as it grows, until the process is gone.
follow() {
    local file=$1 pid=$2 role=$3
    if [[ $role == alone ]]; then
        tail -c +1 -s 0.1 -f --pid "$pid" "$file"
    else
        tail -c +1 -s 0.1 -f --pid "$pid" "$file" | sed -u "s/^/$role: /"
    fi
}

# Says what became of a guest, and fails with its exit code.
verdict() {
    local guest="guest $1" status=$2 folder=$run/$1 code
    [[ $1 != alone ]] || guest="the guest"
    code=$(cat "$folder/share/exit" 2>/dev/null || true)
    if [[ $status == "$qemu_passed" && $code == 0 ]]; then
        return 0
    elif [[ $status == "$qemu_failed" && $code =~ ^[1-9][0-9]*$ ]]; then
        say "$guest: the command failed with exit code $code"
        return "$code"
    elif [[ ! -e $folder/share/booted ]]; then
        say "$guest never came up; QEMU ended with $status"
    elif ((status == 124 || status == 137)); then
        say "$guest: not done after $timeout_s s"
        return 124
    else
        say "$guest died; QEMU ended with $status"
    fi
    tail -q -n 20 "$folder/qemu" "$folder/console" >&2
    return 125
}

keep_out() {
    [[ -n $out ]] || return 0
    local role
    for role in "${roles[@]}"; do
        if [[ $role == alone ]]; then
            cp -r "$run/$role/share/out/." "$out/"
        else
            mkdir -p "$out/$role"
            cp -r "$run/$role/share/out/." "$out/$role/"
        fi
    done
}
