#!/usr/bin/env python3
"""What scripts/cluster makes of lists of hosts, of samplers' lines and of several clients' reports.

usage: python3 tests/cluster_parts.py
"""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True
import facts  # noqa: E402  (no bytecode beside it)
from testbed import hosts, report, usage  # noqa: E402  (found by the path above)


def names_are_expanded_as_slurm_writes_them():
    assert hosts.expand("a,b[1-3,07-08].lan") == ["a", "b1.lan", "b2.lan", "b3.lan", "b07.lan", "b08.lan"]
    assert hosts.expand("r[1-2]n[0-1]") == ["r1n0", "r1n1", "r2n0", "r2n1"]


def a_file_may_be_plain_or_mpi_s():
    text = "# hosts\nnode0\nu@node1 slots=2 max_slots=4\nnode2:3\n\nnode3 address=10.10.1.4  # LAN\n"
    assert hosts.parse(text) == [hosts.Host("node0"), hosts.Host("u@node1", 2), hosts.Host("node2", 3),
                                 hosts.Host("node3", 1, "10.10.1.4")]


def wrong_lists_are_refused_in_a_line():
    for text, words in [("a\na", "twice"), ("a cores=3", "neither"), ("a slots=0", "one slot"), ("n[1-x]", "no range"),
                        ("-oProxyCommand=x", "no list"), ("a;b", "no list"), ("n[0-1] address=1.2.3.4", "one address")]:
        try:
            hosts.parse(text)
        except hosts.HostsError as error:
            assert words in str(error), (text, error)
        else:
            raise AssertionError(text)


def processes_are_dealt_one_a_host_first():
    listed = hosts.parse("a slots=2\nb slots=2\nc")
    nodes, clients = hosts.deal(listed, 2, 3)
    assert [host.name for host in nodes + clients] == ["a", "b", "c", "a", "b"]
    try:
        hosts.deal(listed, 3, 3)
    except hosts.HostsError as error:
        assert "6 slots, and there are 5" in str(error)
    else:
        raise AssertionError("six of five")


def readings_are_rates_between_seconds():
    def second(up, ticks, received):
        return (f"up {up}\nstat cpu {ticks} 0 0 500 0 0 0 0 0 0\nmem MemTotal: 100 kB\nmem MemAvailable: 40 kB\n"
                f"net   lo: 9 0 0 0 0 0 0 0 9 0\nnet eth0:{received} 0 0 0 0 0 0 0 7 0\nverbs {received} 0\n"
                f"process node1\npstat 7 (a b) c) S 1 1 1 0 0 0 0 0 0 0 {ticks} 0 0\npmem 9 3 1\n")
    text = "clock 1000.0 10.0\nticks 100 4096\n" + second(10.0, 100, 1000) + second(12.0, 300, 3000)
    text += "up 13.0\nstat cp"
    found = usage.readings(text)
    host, node = found[usage.HOST][0], found["node1"][0]
    assert host == {"unix_seconds": 1002.0, "cpu_cores": 1.0, "memory_bytes": 60 * 1024,
                    "received_bytes_per_second": 1000.0 + 4000.0, "sent_bytes_per_second": 0.0}, host
    assert (node["cpu_cores"], node["memory_bytes"], len(found["node1"])) == (1.0, 3 * 4096, 1)


def client(began, slices, nodes, hits=95):
    return {
        "throughput": {"began_unix_seconds": began, "slice_seconds": 1.0, "slices": slices, "operations": sum(slices)},
        "cpu_ns_per_op": {"client": 50.0, "server": 120.0}, "config": {"batch": 10},
        "latency_us": {"batch": {"p50": began, "p99": 2.0, "p999": 3.0, "max": 4.0}}, "errors": {"total": 0},
        "reads": {"hits": hits, "misses": 100 - hits, "hit_rate": hits / 100},
        "nodes": [{"operations": count, "bytes_received": 1, "bytes_sent": 1, "cpu_ns": 60 * count} for count in nodes],
    }


def figures_are_of_the_time_in_which_all_clients_measured():
    # The second began half a second later, by a clock that is ten seconds ahead.
    reports = [client(100.0, [10, 20, 20], [44, 36]), client(110.5, [40, 40, 40], [44, 36], hits=85)]
    told = report.figures({"reports": reports, "servers": 2, "clients": 2, "client_machines": ["a", "b"],
                           "clock_offset_seconds": {"b": 10.0}})
    assert (told["common_seconds"], told["start_skew_seconds"]) == (2.5, 0.5)
    assert [one["ops_per_second"] for one in told["drivers"]] == [(5 + 20 + 20) / 2.5, 40.0]
    assert abs(told["ops_per_second"] - 58.0) < 1e-9
    # A node's counters count everybody's work, and each client saw them.
    assert (told["node_cpu_ns_per_op"], told["client_cpu_ns_per_op"]) == (60.0, 50.0)
    assert (round(told["imbalance"], 9), told["hit_rate"]) == (0.1, 0.9)


def main():
    tests = [value for name, value in globals().items() if callable(value) and "_" in name.strip("_")]
    return facts.run(tests)


if __name__ == "__main__":
    sys.exit(main())
