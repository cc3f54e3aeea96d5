"""What scripts/bench sees of the machine and runs on it.

    busy_share, machine, cpu_ticks     how busy it is, what it is, what a process has used
    process, run, install              commands that run beside others, to their end, or are missing
    run_bench                          cargo bench, which leaves our binary as it was
    TARGET, FREIGHT, FREIGHT_IN_TARGET where cargo builds, our own binary, and its place in there
    endpoint_of, free_port             where a node says that it listens, and where one can
"""
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")
TARGET = os.environ.get("CARGO_TARGET_DIR", "target")
FREIGHT_IN_TARGET = os.path.join(os.environ.get("CARGO_BUILD_TARGET", ""), "release", "freight")
FREIGHT = os.path.join(TARGET, FREIGHT_IN_TARGET)
# As scripts/pgo builds.
IS_PROFILE_GUIDED = "profile-use" in os.environ.get("CARGO_ENCODED_RUSTFLAGS", "")


def machine():
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) >> 20
    system = os.uname()
    model = processor[1] if processor else system.machine
    return f"{len(CORES)} cores of {model}, {memory} GiB, Linux {system.release}"


def busy_share(seconds):
    """The share of all cores that is busy, and the busiest processes by their share of one core."""
    def all_cores():
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(numbers), sum(numbers) - numbers[3] - numbers[4]
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and int(path.name) != os.getpid()]
    (all_before, busy_before), before = all_cores(), {pid: cpu_ticks(pid) for pid in pids}
    time.sleep(seconds)
    (all_after, busy_after), after = all_cores(), {pid: cpu_ticks(pid) for pid in pids}
    shares = [(process_name(pid), (after[pid] - before[pid]) / TICKS / seconds) for pid in pids if after[pid]]
    busiest = sorted((share for share in shares if share[1] > 0.01), key=lambda share: -share[1])
    return (busy_after - busy_before) / max(1, all_after - all_before), busiest


def cpu_ticks(pid):
    """Processor time of a process, its threads included; 0 for one that has ended."""
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(numbers[11]) + int(numbers[12])


def process_name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"


@contextlib.contextmanager
def process(command, port=None):
    """A process that is ended with the block; with a port, one that listens there."""
    with subprocess.Popen(command, stdout=subprocess.PIPE if port is None else subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, text=True) as running:
        try:
            while port is not None and not is_listened_at(port):
                if running.poll() is not None:
                    sys.exit(f"{' '.join(command)} ended")
                time.sleep(0.05)
            yield running
        finally:
            running.terminate()


def endpoint_of(node):
    return re.match(r"listening (\S+)", node.stdout.readline())[1]


def is_listened_at(port):
    """Asks the kernel, not the server: iperf3 would take the question for a client."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in map(str.split, lines))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def install(packages):
    """Installs what is missing where that can be done without asking; a daemon of its own is not started."""
    missing = sorted({package for tool, package in packages.items() if not shutil.which(tool)})
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {', '.join(missing)}")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update"], **quiet)
        subprocess.run(["apt-get", "install", "-y", *missing], env=os.environ | {"RUNLEVEL": "1"}, **quiet)


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options)
    return done.stdout if done.returncode == 0 else sys.exit(f"{' '.join(command)} failed")


def run_bench(command, **options):
    """What a command of `cargo bench` prints. Cargo builds our binary anew for it, with what tests want of the
    dependencies, in the place of the one that is measured; a profile of scripts/pgo does not fit that one, which is a
    sixth slower then. The measured one comes back.
    """
    printed = run(command, **options)
    run(["cargo", "build", "--release", "--locked"], **options | {"stderr": subprocess.DEVNULL})
    return printed


def say(words):
    print(words, file=sys.stderr, flush=True)
