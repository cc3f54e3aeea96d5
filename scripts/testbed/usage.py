"""What scripts/testbed/sample.sh saw, as figures a second.

A reading is {"unix_seconds", "cpu_cores", "memory_bytes", "received_bytes_per_second", "sent_bytes_per_second"}: the
processor time used since the reading before it, in cores; the rest likewise, memory at that moment. Network is of every
interface but loopback, and of RDMA devices where the host has them.
"""
HOST = ""


def readings(text):
    """By name, HOST for the host itself, the readings in a sampler's output."""
    series, clock, ticks, page = {}, None, 100, 4096
    at, seen = None, {}

    def close():
        for name, raw in seen.items():
            if raw.get("cpu") is not None:
                series.setdefault(name, []).append((at, raw))

    name = HOST
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        words = rest.split()
        try:
            if kind == "clock":
                clock = float(words[0]) - float(words[1])
            elif kind == "ticks":
                ticks, page = int(words[0]), int(words[1])
            elif kind == "up":
                close()
                at, seen, name = clock + float(words[0]), {HOST: empty()}, HOST
            elif kind == "process":
                name = words[0]
                seen[name] = empty()
            else:
                take(seen[name if kind.startswith("p") else HOST], kind, rest, ticks, page)
        except (IndexError, ValueError, KeyError, TypeError):
            # A process that ended while it was read, or the last line of a sampler that was stopped.
            continue
    close()
    return {name: rates(points) for name, points in series.items()}


def empty():
    return {"cpu": None, "memory": 0, "total": 0, "received": 0, "sent": 0}


def take(raw, kind, rest, ticks, page):
    words = rest.split()
    if kind == "stat":
        numbers = [int(word) for word in words[1:9]]
        raw["cpu"] = (sum(numbers) - numbers[3] - numbers[4]) / ticks
    elif kind == "mem" and words[0] in ("MemTotal:", "MemAvailable:"):
        raw["memory"] += int(words[1]) * 1024 * (1 if words[0] == "MemTotal:" else -1)
    elif kind in ("net", "pnet") and ":" in rest:
        interface, _, numbers = rest.partition(":")
        if interface.strip() != "lo":
            raw["received"] += int(numbers.split()[0])
            raw["sent"] += int(numbers.split()[8])
    elif kind == "verbs":
        # The counters count words of four bytes.
        raw["received"] += 4 * int(words[0])
        raw["sent"] += 4 * int(words[1])
    elif kind == "pstat":
        fields = rest.rpartition(")")[2].split()
        raw["cpu"] = (int(fields[11]) + int(fields[12])) / ticks
    elif kind == "pmem":
        raw["memory"] = int(words[1]) * page


def rates(points):
    found = []
    for (before, first), (after, then) in zip(points, points[1:]):
        seconds = after - before
        if seconds <= 0:
            continue
        since = {key: max(0.0, (then[key] - first[key]) / seconds) for key in ("cpu", "received", "sent")}
        found.append({
            "unix_seconds": after, "cpu_cores": since["cpu"], "memory_bytes": max(0, then["memory"]),
            "received_bytes_per_second": since["received"], "sent_bytes_per_second": since["sent"],
        })
    return found
