"""What several clients' reports say together: figures, a text, and charts for `freight plot`."""
import shlex
import statistics

MILLION = 1e6
# Its place among the colours of `freight plot`.
BLACK = 6


def figures(run):
    """The figures of one run, over the time in which all of its clients measured."""
    reports = run["reports"]
    offsets = [run["clock_offset_seconds"].get(machine, 0.0) for machine in run["client_machines"]]
    spans = [span(report, offset) for report, offset in zip(reports, offsets)]
    begin, end = max(first for first, _, _ in spans), min(last for _, last, _ in spans)
    rates = [operations_between(begin, end, span) / (end - begin) for span in spans] if end > begin else []
    operations = sum(report["throughput"]["operations"] for report in reports)
    client_ns = sum(report["cpu_ns_per_op"]["client"] * report["throughput"]["operations"] for report in reports)
    nodes = node_figures(reports)
    hits, misses = (sum(report["reads"][which] for report in reports) for which in ("hits", "misses"))
    batches = [report["latency_us"]["batch"] for report in reports]
    return {
        "servers": run["servers"], "clients": run["clients"], "batch": reports[0]["config"]["batch"],
        "ops_per_second": sum(rates), "common_seconds": end - begin,
        "start_skew_seconds": begin - min(first for first, _, _ in spans),
        "client_cpu_ns_per_op": client_ns / max(1, operations),
        "node_cpu_ns_per_op": sum(node["cpu_ns"] for node in nodes) / max(1, sum(n["operations"] for n in nodes)),
        "imbalance": max(abs(node["share_of_mean"] - 1) for node in nodes),
        "hit_rate": hits / (hits + misses) if hits + misses else None,
        "errors": sum(report["errors"]["total"] for report in reports),
        # Quantiles of several clients have no sum: the median client's p50, the slowest client's tail.
        "batch_us": {"p50": statistics.median(batch["p50"] for batch in batches)} |
                    {name: max(batch[name] for batch in batches) for name in ("p99", "p999", "max")},
        "nodes": nodes,
        "drivers": [{"ops_per_second": rate, "batch_us": batch, "cpu_ns_per_op": report["cpu_ns_per_op"]["client"],
                     "hit_rate": report["reads"]["hit_rate"]}
                    for rate, batch, report in zip(rates, batches, reports)],
    }


def span(report, offset):
    """When a client measured, by our clock: its first instant, its last, and its operations of each slice."""
    throughput = report["throughput"]
    begin, length = throughput["began_unix_seconds"] - offset, throughput["slice_seconds"]
    counts = [rate * length for rate in throughput["slices"]]
    return begin, begin + length * len(counts), counts


def operations_between(begin, end, span):
    """Operations of a client in that time; of a slice that is partly in it, that part."""
    first, last, counts = span
    length = (last - first) / len(counts)
    total = 0.0
    for i, count in enumerate(counts):
        from_, to = first + i * length, first + (i + 1) * length
        total += count * max(0.0, min(to, end) - max(from_, begin)) / length
    return total


def node_figures(reports):
    """Each node's work: what the clients saw of its counters, which count for all clients, in the mean."""
    found = []
    for place in range(len(reports[0]["nodes"])):
        seen = [report["nodes"][place] for report in reports]
        found.append({key: statistics.mean(one[key] for one in seen) for key in seen[0]})
    mean = statistics.mean(node["operations"] for node in found)
    for node in found:
        node["share_of_mean"] = node["operations"] / mean if mean else 1.0
        node["cpu_ns_per_op"] = node["cpu_ns"] / max(1, node["operations"])
    return found


def series(runs):
    """Runs that belong on one line: by what is the same in all of them."""
    found = {}
    for run in runs:
        for name in run["series"]:
            found.setdefault(name, []).append(run["figures"])
    return {name: sorted(points, key=lambda point: point["servers"]) for name, points in found.items()}


def charts(runs, where):
    """What `freight plot` shall draw."""
    found = {}
    lines = series(runs)
    throughput, ideals, cpu = [], [], []
    for colour, (name, points) in enumerate(lines.items()):
        first = points[0]
        throughput.append(line(name or "measured", points, lambda p: p["ops_per_second"] / MILLION, colour))
        ideal = [[p["servers"], first["ops_per_second"] / MILLION * p["servers"] / first["servers"]] for p in points]
        if all(ideal != line["points"] for line in ideals):
            ideals.append({"name": "ideal", "dashed": True, "colour": BLACK, "points": ideal})
        cpu.append(line(f"node{', ' if name else ''}{name}", points, lambda p: p["node_cpu_ns_per_op"], colour))
        cpu.append(line(f"client{', ' if name else ''}{name}", points, lambda p: p["client_cpu_ns_per_op"], colour)
                   | {"dashed": True})
    pairs = dict.fromkeys(f"{run['servers']}+{run['clients']}" for run in runs)
    nodes = f"nodes ({', '.join(pairs)} nodes and clients)"
    found["throughput"] = chart(f"Throughput over nodes, {where}", [panel(nodes, "M op/s", throughput + ideals)])
    found["cpu"] = chart(f"CPU an operation over nodes, {where}", [panel(nodes, "ns an operation", cpu)])
    for run in runs:
        if run["usage"]:
            found[f"usage-{run['name']}"] = usage_chart(run, where)
    return found


def usage_chart(run, where):
    zero = min(points[0]["unix_seconds"] for points in run["usage"].values() if points)

    def lines(*picks):
        found = []
        for name, points in sorted(run["usage"].items(), key=lambda item: order(item[0])):
            number = int("".join(filter(str.isdigit, name.split()[0])) or 1) - 1
            for suffix, pick in picks:
                found.append({"name": name + suffix, "dashed": name.startswith("client"), "colour": number,
                              "points": [[p["unix_seconds"] - zero, pick(p)] for p in points]})
        return found

    x = "seconds"
    return chart(f"What each host uses, {run['servers']}+{run['clients']} nodes and clients, {where}", [
        panel(x, "CPU, cores", lines(("", lambda p: p["cpu_cores"]))),
        panel(x, "memory, MiB", lines(("", lambda p: p["memory_bytes"] / (1 << 20)))),
        panel(x, "received, MB/s", lines(("", lambda p: p["received_bytes_per_second"] / MILLION))),
        panel(x, "sent, MB/s", lines(("", lambda p: p["sent_bytes_per_second"] / MILLION))),
    ])


def order(name):
    return name.startswith("client"), len(name), name


def line(name, points, pick, colour):
    return {"name": name, "colour": colour, "points": [[p["servers"], pick(p)] for p in points]}


def panel(x, y, lines):
    return {"x": x, "y": y, "lines": lines}


def chart(title, panels):
    return {"title": title, "panels": panels}


def markdown(report):
    """The report for people."""
    runs = report["runs"]
    program = report["program"]
    lines = [f"# {report['title']}", "", f"`{shlex.join(report['command'])}`, {report['date']}, freight "
             f"{program['version']} ({program['commit']}).", "", report["where"] + ".", ""]
    lines += head("nodes + clients", "batch", "op/s", "of ideal", "node CPU, ns/op", "client CPU, ns/op",
                  "p50 / p99, us", "hit rate", "imbalance", "errors")
    for run in runs:
        told = run["figures"]
        first = series(runs)[run["series"][0]][0]
        ideal = told["ops_per_second"] / (first["ops_per_second"] * told["servers"] / first["servers"])
        cpu = (f"{told[which]:.1f}" for which in ("node_cpu_ns_per_op", "client_cpu_ns_per_op"))
        lines.append(row(f"{run['servers']} + {run['clients']}", f"{told['batch']:,}",
                         rate(told["ops_per_second"]), f"{ideal:.0%}", *cpu,
                         quantiles(told, "p50", "p99"), share(told["hit_rate"]), f"{told['imbalance']:.2%}",
                         told["errors"]))
    lines += ["", "op/s is of the time in which all clients measured; \"of ideal\" beside as many times the first run",
              "of the same batches. p50 is the median client's, p99 the slowest client's. Imbalance is how far the",
              "busiest or idlest node is from the mean, in operations.", ""]
    lines += [f"![{name}]({name}.png)" for name in report["charts"]]
    return "\n".join([*lines, *(text for run in runs for text in details(run))]) + "\n"


def details(run):
    """A run's nodes and clients, one by one."""
    told = run["figures"]
    together = told["common_seconds"]
    measured = f"Measured together for {together:.1f} s" if together > 0 else "**Never measured together: take longer**"
    lines = ["", f"## {run['name']}", "", f"{measured}; the last client "
             f"began {1000 * told['start_skew_seconds']:.0f} ms after the first.", ""]
    lines += head("node", "host", "operations", "of the mean", "CPU, ns/op", "MB in", "MB out")
    for node, place in zip(told["nodes"], run["nodes"]):
        megabytes = (f"{node[which] / MILLION:,.0f}" for which in ("bytes_received", "bytes_sent"))
        lines.append(row(place["name"], place["host"], f"{node['operations']:,.0f}", f"{node['share_of_mean']:.2%}",
                         f"{node['cpu_ns_per_op']:.1f}", *megabytes))
    lines += ["", *head("client", "host", "op/s", "p50 / p99 / p99.9 / max, us", "CPU, ns/op", "hit rate")]
    for client, place in zip(told["drivers"], run["drivers"]):
        lines.append(row(place["name"], place["host"], rate(client["ops_per_second"]),
                         quantiles(client, "p50", "p99", "p999", "max"), f"{client['cpu_ns_per_op']:.1f}",
                         share(client["hit_rate"])))
    return [*lines, "", f"Each client: `freight bench {shlex.join(run['bench'])}`; logs in {run['name']}."]


def head(*cells):
    return [row(*cells), "|" + "---|" * len(cells)]


def row(*cells):
    return f"| {' | '.join(map(str, cells))} |"


def quantiles(figures, *names):
    return " / ".join(f"{figures['batch_us'][name]:,.0f}" for name in names)


def share(value):
    return "" if value is None else f"{value:.2%}"


def rate(value):
    return f"{value / MILLION:.2f} M" if value >= MILLION else f"{value / 1e3:.1f} k"
