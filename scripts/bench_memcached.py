"""scripts/bench's rows beside memcached: its multi-get, the way in which it is fastest.

The loader is libmemcached's memaslap, which Debian calls memcaslap: C, an event loop a thread, text protocol, keys of
24 bytes, values of 128, all of them found. It says one rate for filling and reading together, so memcached's own
counters are read instead, twice, while nothing but gets is going on.
"""
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from bench_machine import CORES, FREIGHT, TICKS, cpu_ticks, endpoint_of, free_port, process

# memaslap's keys: windows of 125 * 1024, one a connection.
CONNECTIONS, WINDOW = 8, "125k"
RECORDS = CONNECTIONS * 125 * 1024
KEYS_A_GET = 100

# Longest that filling it may take.
FILL_SECONDS_MAX = 60

# Lengths of keys and values, and no sets but those that fill it.
LOAD = "key\n24 24 1\nvalue\n128 128 1\ncmd\n0 0.0\n1 1.0\n"


def memcached(bench):
    """Both as they come, server and loader on all cores: eight connections, a hundred keys a request."""
    missing = [tool for tool in ("memcached", "memcaslap") if not shutil.which(tool)]
    if missing:
        return bench.skip("batch 100 beside memcached", f"{', '.join(missing)} is missing")
    threads = str(len(CORES))
    serve = [FREIGHT, "serve", "--listen", "tcp://127.0.0.1:0", "--threads", threads]
    keys = ["--workload", "ycsb-c", "--value-size", "128", "--theta", "0", "--records", str(RECORDS)]
    flags = ["--workers", str(CONNECTIONS), "--batch", str(KEYS_A_GET), *keys]
    bench.commands["node beside memcached"] = shlex.join(serve)
    with process(serve) as node:
        endpoint = endpoint_of(node)
        bench.alternate({
            "memcached, multi-get of 100": lambda: multi_get(bench, threads),
            "batch 100, 8 connections": lambda: bench.freight(
                "batch 100, 8 connections", ["--servers", endpoint, *flags]),
        })
    ours, theirs = "batch 100, 8 connections", "memcached, multi-get of 100"
    rate, cpu = "ops_per_second", "server_cpu_ns_per_op"
    return [
        bench.row("batch 100, 8 connections", ours, rate, "4 x memcached", (theirs, rate), least=4.0),
        bench.row("its server CPU, ns/op", ours, cpu, None, (theirs, cpu)),
    ]


def multi_get(bench, threads):
    """Keys a second that a memcached of its own finds, and its CPU time a key."""
    port = free_port()
    # As root it wants to be told whom to be.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    serve = ["memcached", *user, "-l", "127.0.0.1", "-p", str(port), "-t", threads, "-m", "1024"]
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as load, process(serve, port) as server:
        load.write(LOAD)
        load.flush()
        ask = ["memcaslap", "-s", f"127.0.0.1:{port}", "-F", load.name, "-T", threads, "-c", str(CONNECTIONS)]
        # It divides its connections among its threads, and ends by itself some time after it was read.
        ask += ["-d", str(KEYS_A_GET), "-w", WINDOW, "-X", "128", "-t", f"{FILL_SECONDS_MAX + bench.seconds}s"]
        bench.commands.setdefault("memcached, multi-get of 100", f"{shlex.join(serve)} & {shlex.join(ask)}")
        with subprocess.Popen(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as loader:
            try:
                wait_for_gets(port, loader)
                time.sleep(1.0)
                return rates(port, server.pid, loader.pid, bench.seconds)
            finally:
                loader.kill()


def wait_for_gets(port, loader):
    """Until it is full and read from."""
    until = time.monotonic() + FILL_SECONDS_MAX
    while time.monotonic() < until:
        if loader.poll() is not None:
            sys.exit("memcaslap ended before it was told to")
        counters = stats(port)
        if counters["curr_items"] == RECORDS and counters["cmd_get"] > 0:
            return
        time.sleep(0.2)
    sys.exit(f"memcached holds {counters['curr_items']} records of {RECORDS} after {FILL_SECONDS_MAX} s")


def rates(port, server, client, seconds):
    before = (stats(port), cpu_ticks(server), cpu_ticks(client), time.monotonic())
    time.sleep(seconds)
    after = (stats(port), cpu_ticks(server), cpu_ticks(client), time.monotonic())
    done = {name: after[0][name] - before[0][name] for name in ("get_hits", "get_misses", "cmd_set")}
    if done["get_misses"] or done["cmd_set"] or not done["get_hits"]:
        sys.exit(f"memcached was to be read, every key found: {done}")
    server_ns, client_ns = ((after[i] - before[i]) / TICKS * 1e9 / done["get_hits"] for i in (1, 2))
    return {"ops_per_second": done["get_hits"] / (after[3] - before[3]), "server_cpu_ns_per_op": server_ns,
            "client_cpu_ns_per_op": client_ns}


def stats(port):
    """Its counters that are whole numbers."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"stats\r\nquit\r\n")
        text = connection.makefile("rb").read().decode()
    words = (line.split() for line in text.splitlines() if line.startswith("STAT "))
    return {name: int(value) for _, name, value in (word for word in words if len(word) == 3) if value.isdigit()}
