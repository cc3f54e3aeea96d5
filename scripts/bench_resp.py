"""scripts/bench's rows of the door for Redis clients beside redis-server, by the same clients."""
import contextlib
import shlex
import shutil
import subprocess

from bench_machine import CORES, FREIGHT, TICKS, cpu_ticks, endpoint_of, process, run
from bench_redis import RECORDS, load_redis, redis_server

# About what redis-server answers a second here, and how often ours as many: so that all runs take about as long.
RATES = {("get", 1): 80_000, ("set", 1): 80_000, ("get", 100): 700_000, ("set", 100): 500_000}
TIMES = {1: 1, 100: 4}
SERVERS = ("redis", "door")


def resp(bench):
    """redis-benchmark on a million keys that are all there; server on one core, client on another, both alike."""
    names = "the door beside redis-server, by redis-benchmark"
    if reason := missing():
        return bench.skip(names, reason)
    with servers(bench) as served:
        def contender(name, server, test, pipeline):
            return lambda: redis_benchmark(bench, name, served[server], server, test, pipeline)
        contenders = {}
        for test, pipeline in RATES:
            for server in SERVERS:
                name = f"{server}, {test} -P {pipeline}"
                contenders[name] = contender(name, server, test, pipeline)
        bench.alternate(contenders)
    rate, cpu = "ops_per_second", "server_cpu_ns_per_op"
    rows = []
    for (test, pipeline), least in zip(RATES, (0.95, 0.95, 3.0, 2.0)):
        what = f"{test} -P {pipeline}"
        ours, theirs = f"door, {what}", f"redis, {what}"
        rows += [
            bench.row(f"redis-benchmark -t {what}", ours, rate, f"{least} x redis", (theirs, rate), least=least),
            bench.row("its server CPU, ns/op", ours, cpu, "less than redis", (theirs, cpu), most=1.0),
        ]
    return rows


def resp_tool(bench):
    """`freight bench` over RESP, every byte read checked; ours by frames beside it."""
    names = "freight bench over RESP, beside redis-server"
    if reason := missing():
        return bench.skip(names, reason)
    on_client = ["taskset", "-c", str(CORES[1])]
    with servers(bench, loaded=False) as served:
        def contender(name, endpoint, flags):
            keys = ["--workload", "freight", "--records", "200000", "--threads", "1", "--verify"]
            return lambda: bench.freight(name, ["--servers", endpoint, *keys, *flags], on_client)
        contenders = {}
        for batch, workers in ((1, 50), (100, 8)):
            flags = ["--batch", str(batch), "--workers", str(workers)]
            for server in (*SERVERS, "frames"):
                name = f"{server}, batch {batch}"
                contenders[name] = contender(name, served[server][1], flags)
        bench.alternate(contenders)
    rate, cpu = "ops_per_second", "server_cpu_ns_per_op"
    rows = []
    for batch, workers in ((1, 50), (100, 8)):
        theirs = f"redis, batch {batch}"
        for server, what in (("door", "resp://"), ("frames", "tcp://")):
            ours = f"{server}, batch {batch}"
            rows += [
                bench.row(f"freight bench, {what}, batch {batch}, {workers} workers", ours, rate, None, (theirs, rate)),
                bench.row("its server CPU, ns/op", ours, cpu, None, (theirs, cpu)),
            ]
    return rows


def missing():
    """Why this cannot be measured here, or nothing."""
    tools = [tool for tool in ("redis-server", "redis-cli", "redis-benchmark") if not shutil.which(tool)]
    if tools:
        return f"{', '.join(tools)} is missing"
    return "server and client need a core each" if len(CORES) < 2 else None


@contextlib.contextmanager
def servers(bench, loaded=True):
    """redis-server and a node on the same core, by name: the process, and where it listens."""
    pinned = ["taskset", "-c", str(CORES[0])]
    with contextlib.ExitStack() as stack:
        server, port = stack.enter_context(redis_server(bench, "redis-server", pinned))
        serve = [*pinned, FREIGHT, "serve", "--threads", "1", "--listen", "tcp://127.0.0.1:0,resp://127.0.0.1:0"]
        node = stack.enter_context(process(serve))
        frames, door = endpoint_of(node), endpoint_of(node)
        bench.commands["node"] = shlex.join(serve)
        served = {"redis": (server, f"resp://127.0.0.1:{port}"), "door": (node, door), "frames": (node, frames)}
        if loaded:
            for server in SERVERS:
                load_redis(port_of(served[server][1]))
        yield served


def port_of(endpoint):
    return int(endpoint.rsplit(":", 1)[1])


def redis_benchmark(bench, name, served, server, test, pipeline):
    """As many commands as take about half as long as a run of `freight bench`."""
    running, endpoint = served
    requests = RATES[test, pipeline] * bench.seconds // 2 * (TIMES[pipeline] if server == "door" else 1)
    command = ["taskset", "-c", str(CORES[1]), "redis-benchmark", "-p", str(port_of(endpoint)), "-t", test, "-c", "50"]
    command += ["-P", str(pipeline), "-r", str(RECORDS), "-d", "128", "-n", str(requests), "--csv"]
    bench.commands.setdefault(name, shlex.join(command))
    before = cpu_ticks(running.pid)
    answer = run(command, stderr=subprocess.DEVNULL).splitlines()[-1].replace('"', "").split(",")
    cpu_ns = (cpu_ticks(running.pid) - before) / TICKS * 1e9
    return {"ops_per_second": float(answer[1]), "server_cpu_ns_per_op": cpu_ns / requests}
