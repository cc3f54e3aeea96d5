# The lab's kernel and file system, made of Debian packages. Sourced by scripts/rdma-lab.
#
#   make_image     leaves kernel/vmlinux and base.cpio in $cache; remakes what is out of date
#   make_initrd    leaves $run/initrd: the base, then the files and the command of this run
#
# The kernel's package is unpacked, never installed. Cutting the ELF image out of it lets QEMU enter it directly.

readonly programs=(bash ip tc rdma rping ibv_devices ibv_devinfo ibv_rc_pingpong
    ib_{send,write,read}_{bw,lat})
# crc32_generic is what rdma_rxe asks the kernel for by name: no module depends on it.
readonly modules=(crc32_generic rdma_rxe rdma_ucm dummy virtio_pci virtio_net sch_netem 9p 9pnet_virtio)

make_image() {
    [[ $(uname -m) == x86_64 ]] || not_run "it needs an x86-64 machine"
    # What a user has no path to: kmod's programs and tc.
    PATH=$PATH:/usr/sbin:/sbin
    need_packages qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio modprobe:kmod xz:xz-utils \
        strip:binutils ip:iproute2 ib_send_bw:perftest rping:rdmacm-utils ibv_devinfo:ibverbs-utils \
        /usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav34.so:ibverbs-providers >&2 ||
        not_run "Debian packages are missing and cannot be installed here"
    mkdir -p "$cache"
    # Two runs at a time make it once.
    exec {lock}>"$cache/lock"
    flock "$lock"
    make_kernel
    make_base
    exec {lock}>&-
}

make_kernel() {
    local key package
    key=$({ declare -f make_kernel unpack_xz_payload take_modules && echo "${modules[@]}"; } | sha256sum)
    [[ $(cat "$cache/kernel/key" 2>/dev/null) != "$key" ]] || return 0
    package=$(kernel_package) || not_run "the package index has no linux-image-amd64 (apt-get update)"
    say "unpacking $package"
    rm -rf "$cache/kernel"
    mkdir -p "$cache/kernel"
    (
        cd "$cache/kernel"
        # Without the sandbox user, who may not write here.
        apt-get download -qq -o APT::Sandbox::User=root "$package"
    ) || not_run "$package cannot be downloaded"
    dpkg --fsys-tarfile "$cache"/kernel/*.deb | tar -x -C "$cache/kernel" ./boot ./lib/modules
    unpack_xz_payload "$cache"/kernel/boot/vmlinuz-* >"$cache/kernel/vmlinux"
    if [[ $(head -c 4 "$cache/kernel/vmlinux") != $'\x7fELF' ]]; then
        say "$package holds no xz-compressed kernel"
        exit 125
    fi
    take_modules "${package#linux-image-}"
    rm -r "$cache"/kernel/{*.deb,boot,lib}
    echo "$key" >"$cache/kernel/key"
}

# linux-image-amd64 depends on the package that has the current version in its name.
kernel_package() {
    local found
    found=$(current_kernel)
    if [[ -z $found ]]; then
        as_root apt-get update -qq >&2
        found=$(current_kernel)
    fi
    [[ -n $found ]] && echo "$found"
}

current_kernel() {
    apt-cache depends linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }'
}

unpack_xz_payload() {
    local offset
    offset=$(grep -abo $'\xfd7zXZ' "$1" | awk -F: 'NR == 1 { print $1 }')
    # Other things follow the payload, and xz ends there without success.
    tail -c "+$((offset + 1))" "$1" | xz -dc 2>/dev/null || true
}

# Stripped, and listed in the order in which they load.
take_modules() {
    local release=$1 name path
    mkdir "$cache/kernel/modules"
    depmod -b "$cache/kernel" "$release"
    for name in "${modules[@]}"; do
        modprobe -d "$cache/kernel" -S "$release" --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
        strip --strip-debug "$path" -o "$cache/kernel/modules/$(basename "$path")"
        basename "$path"
    done >"$cache/kernel/modules/order"
}

make_base() {
    local key
    key=$(
        cat "$cache/kernel/key" "$project"/scripts/lab/{image.sh,init,lab-exit,lab-peer}
        dpkg-query -W perftest ibverbs-providers libibverbs1 iproute2 bash busybox-static libc6 2>/dev/null || true
    )
    key=$(sha256sum <<<"$key")
    [[ $(cat "$cache/base.key" 2>/dev/null) != "$key" ]] || return 0
    say "making the base file system"
    rm -rf "$cache/base" "$cache/base.key"
    fill_base "$cache/base"
    pack "$cache/base" >"$cache/base.cpio"
    echo "$key" >"$cache/base.key"
}

fill_base() {
    local root=$1 name
    mkdir -p "$root"/{dev,proc,sys,run,tmp,host,lab,etc/libibverbs.d,usr/{bin,lib,lib64,sbin}}
    for name in bin lib lib64 sbin; do
        ln -s "usr/$name" "$root/$name"
    done
    busybox --list | while read -r name; do
        ln -s busybox "$root/usr/bin/$name"
    done
    for name in busybox "${programs[@]}"; do
        # A program of its own takes the place of busybox's.
        install -D "$(command -v "$name")" "$root/usr/bin/$name"
        take_libraries "$root" "$(command -v "$name")"
    done
    # libibverbs and its driver are opened at run time: nothing links them.
    for name in /usr/lib/x86_64-linux-gnu/{libibverbs/librxe-rdmav34,libibverbs,librdmacm}.so*; do
        [[ $name != *.so.1.* ]] || continue
        install -D "$name" "$root$name"
        take_libraries "$root" "$name"
    done
    cp /etc/libibverbs.d/rxe.driver "$root/etc/libibverbs.d/"
    printf '%s\n' 'root:x:0:0::/:/bin/bash' 'tester:x:1000:1000::/tmp:/bin/bash' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'tester:x:1000:' >"$root/etc/group"
    echo '127.0.0.1 localhost' >"$root/etc/hosts"
    install "$project/scripts/lab/init" "$root/init"
    install "$project"/scripts/lab/lab-{exit,peer} "$root/usr/bin/"
    cp -r "$cache/kernel/modules" "$root/usr/lib/modules"
}

# What `binary` links, into `root`. Folders that Debian merged are links there, and a link must not become a folder.
take_libraries() {
    local root=$1 binary=$2 library place
    { ldd "$binary" 2>/dev/null || true; } | { grep -oE '/[^ ]+' || true; } | while read -r library; do
        place=$library
        [[ $library != /lib* ]] || place=/usr$library
        [[ -e $cache/base$place && $root != "$cache/base" || -e $root$place ]] ||
            install -D "$library" "$root$place"
    done
}

make_initrd() {
    local root=$run/root path
    mkdir -p "$root/lab"
    for path in "${files[@]}"; do
        [[ ! -e $root/lab/$(basename "$path") ]] || refuse "two files are called $(basename "$path")"
        cp -rL "$path" "$root/lab/"
        chmod +x "$root/lab/$(basename "$path")"
    done
    find "$root/lab" -type f -executable -print0 | while IFS= read -r -d '' path; do
        take_libraries "$root" "$path"
    done
    printf '%q ' "${command[@]}" >"$root/lab/.command"
    { cat "$cache/base.cpio" && pack "$root"; } >"$run/initrd"
}

pack() {
    (cd "$1" && find . -mindepth 1 -print0 | sort -z | cpio --null --create --format newc --owner 0:0 --quiet)
}
