# Debian packages that a script needs, installed where they are missing. Sourced by other scripts.
#
#   need_packages python3 cc:gcc crt1.o:libc6-dev valgrind     a package, or what to look for and its package
#
# Installs only what is missing, as root or by a sudo that asks nothing; otherwise names it and fails.

# What the tests need. Where systemd runs, etcd's package starts one that listens on the loopback address; tests start
# their own.
# shellcheck disable=SC2034
readonly test_packages=(
    cc:gcc crt1.o:libc6-dev python3 ip:iproute2 unshare:util-linux
    etcd:etcd-server openssl setpriv:util-linux man:man-db
    redis-server redis-cli:redis-tools /usr/lib/python3/dist-packages/redis:python3-redis
    /usr/lib/python3/dist-packages/prometheus_client:python3-prometheus-client
    /usr/include/infiniband/verbs.h:libibverbs-dev
)

need_packages() {
    local entry missing=()
    for entry in "$@"; do
        is_there "${entry%%:*}" || missing+=("${entry##*:}")
    done
    ((${#missing[@]} == 0)) && return 0

    if ! command -v apt-get >/dev/null || ! as_root true 2>/dev/null; then
        echo "please install: ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        sudo -n "$@"
    fi
}

is_there() {
    case $1 in
    /*) [[ -e $1 ]] ;;
    *.o) [[ -e $(cc -print-file-name="$1" 2>/dev/null) ]] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}
