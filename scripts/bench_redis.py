"""scripts/bench's rows beside redis-server, as redis-benchmark loads it."""
import contextlib
import shlex
import shutil
import subprocess
import sys

from bench_machine import CORES, FREIGHT, TICKS, cpu_ticks, endpoint_of, free_port, process, run

RECORDS = 1_000_000


def redis(bench):
    """Reads of a million keys, all there, uniformly; server on one core, client on another, both systems alike.

    Latencies are those of one client, `freight bench`: redis-benchmark counts from another moment.
    """
    names = "batch 1, one coalescing client and batch 100 beside redis"
    missing = [tool for tool in ("redis-server", "redis-cli", "redis-benchmark") if not shutil.which(tool)]
    if missing:
        return bench.skip(names, f"{', '.join(missing)} is missing")
    if len(CORES) < 2:
        return bench.skip(names, "server and client need a core each")
    on_server, on_client = (["taskset", "-c", str(core)] for core in CORES[:2])
    with contextlib.ExitStack() as stack:
        server, port = stack.enter_context(redis_server(bench, "redis-server", on_server))
        # It has the records of `freight bench`, so that the first has no more than redis-benchmark's.
        _, second_port = stack.enter_context(redis_server(bench, "redis-server of freight bench", on_server))
        load_redis(port)
        serve = [*on_server, FREIGHT, "serve", "--listen", "tcp://127.0.0.1:0", "--threads", "1"]
        node = stack.enter_context(process(serve))
        own, second = endpoint_of(node), f"resp://127.0.0.1:{second_port}"

        def ours(name, flags, server=own):
            keys = ["--workload", "ycsb-c", "--value-size", "128", "--theta", "0", "--records", str(RECORDS)]
            fixed = ["--servers", server, "--threads", "1", "--workers", "50", *keys]
            return lambda: bench.freight(name, [*fixed, *flags], on_client)

        def theirs(name, pipeline, rate):
            return lambda: redis_benchmark(bench, name, on_client, port, server.pid, pipeline, rate)

        bench.alternate({
            "redis -P 1": theirs("redis -P 1", 1, 80_000),
            "batch 1": ours("batch 1", ["--batch", "1"]),
            "redis by freight bench": ours("redis by freight bench", ["--batch", "1"], second),
            "coalescing": ours("coalescing", ["--batch", "1", "--connections", "shared"]),
            "redis -P 100": theirs("redis -P 100", 100, 700_000),
            "batch 100": ours("batch 100", ["--batch", "100"]),
        })
        bench.commands["node"] = shlex.join(serve)
    cpu, rate, p99 = "server_cpu_ns_per_op", "ops_per_second", "batch_us_p99"
    one, hundred = ("redis -P 1", rate), ("redis -P 100", rate)
    return [
        bench.row("batch 1, 50 connections", "batch 1", rate, "redis -P 1", one, least=1.0),
        bench.row("its server CPU, ns/op", "batch 1", cpu, "0.8 of redis", ("redis -P 1", cpu), most=0.8),
        bench.row("its p99, us", "batch 1", p99, "redis by the same client", ("redis by freight bench", p99), most=1.0),
        bench.row("50 tasks, one coalescing client", "coalescing", rate, "10 x redis -P 1", one, least=10.0),
        bench.row("batch 100, 50 connections", "batch 100", rate, "6 x redis -P 100", hundred, least=6.0),
        bench.row("its server CPU, ns/op", "batch 100", cpu, None, ("redis -P 100", cpu)),
    ]


@contextlib.contextmanager
def redis_server(bench, name, prefix):
    """A redis-server that keeps nothing on disk: the process, and its port."""
    port = free_port()
    command = [*prefix, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    bench.commands[name] = shlex.join(command)
    with process(command, port) as server:
        yield server, port


def load_redis(port):
    """The keys that redis-benchmark asks for, every one of them."""
    value = "x" * 128
    pipe = subprocess.Popen(["redis-cli", "-p", str(port), "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    for first in range(0, RECORDS, 10_000):
        sets = (f"SET key:{number:012} {value}\r\n" for number in range(first, first + 10_000))
        pipe.stdin.write("".join(sets).encode())
    pipe.stdin.close()
    size = run(["redis-cli", "-p", str(port), "dbsize"]) if pipe.wait() == 0 else "nothing"
    if size.strip() != str(RECORDS):
        sys.exit(f"redis holds {size.strip()} records after loading {RECORDS}")


def redis_benchmark(bench, name, prefix, port, pid, pipeline, rate):
    """As many reads as take about as long as a run of ours."""
    requests = rate * bench.seconds
    command = [*prefix, "redis-benchmark", "-p", str(port), "-t", "get", "-c", "50", "-P", str(pipeline)]
    command += ["-r", str(RECORDS), "-d", "128", "-n", str(requests), "--csv"]
    bench.commands.setdefault(name, shlex.join(command))
    before = cpu_ticks(pid)
    answer = run(command, stderr=subprocess.DEVNULL).splitlines()[-1].replace('"', "").split(",")
    cpu_ns = (cpu_ticks(pid) - before) / TICKS * 1e9
    return {"ops_per_second": float(answer[1]), "server_cpu_ns_per_op": cpu_ns / requests}
