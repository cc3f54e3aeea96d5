"""One measurement: so many nodes, so many clients, one report of each, and what their hosts used meanwhile.

    nodes start -> "listening" -> clients start -> "ready" (the first has loaded) -> all are told one instant -> reports
"""
import json
import time

from testbed.processes import ProcessError
from testbed.usage import HOST, readings

PORT = 7411
LISTEN_SECONDS, LOAD_SECONDS, RUN_SECONDS = 120, 900, 3600
LEAD_SECONDS = 1.0


def measure(testbed, processes, settings, servers, clients, bench, folder):
    """Runs it; a dictionary of what came of it. `bench` are the arguments of each client."""
    if not processes.dry_run:
        folder.mkdir(parents=True)
    nodes, drivers = testbed.deal(servers, clients)
    watched = {place.machine: place for place in [*nodes, *drivers]}
    if set(watched) == {"here"}:
        watched = {"here": testbed.machine}
    started = []
    endpoints = ",".join(endpoint(settings, number, place) for number, place in enumerate(nodes, 1))
    try:
        for number, place in enumerate(nodes, 1):
            started.append(start_node(testbed, processes, settings, number, place, folder))
        processes.wait_for_line(started, "listening", LISTEN_SECONDS)
        offsets = {name: clock_offset(processes, place) for name, place in watched.items()}
        samplers = [start_sampler(processes, place, folder) for place in watched.values()]
        running = []
        for number, place in enumerate(drivers, 1):
            flags = ["--servers", endpoints, "--part", f"{number}/{clients}", *bench, "--json", f"client{number}.json"]
            running.append(start_client(testbed, processes, settings, number, place, flags, folder))
        processes.wait_for_line(running, "ready", LOAD_SECONDS)
        start = time.time() + LEAD_SECONDS
        for process in running:
            process.say(f"{start + offsets[process.place.machine]:.6f}")
        processes.wait_for_end(running, RUN_SECONDS)
        reports = [fetch(processes, process, folder) for process in running]
    finally:
        processes.stop()
    profiles(processes, settings, [*started, *running], folder)
    used = {} if processes.dry_run else usage(samplers, offsets, nodes, drivers)
    return {
        "servers": servers, "clients": clients, "bench": bench, "start_unix_seconds": start, "usage": used,
        "reports": reports, "client_machines": [place.machine for place in drivers], "clock_offset_seconds": offsets,
        "nodes": [described(f"node{number}", place) for number, place in enumerate(nodes, 1)],
        "drivers": [described(f"client{number}", place) for number, place in enumerate(drivers, 1)],
    }


def described(name, place):
    return {"name": name, "host": place.name, "address": place.address, "folder": place.folder}


def endpoint(settings, number, place):
    return f"{settings.transport}://{place.address}:{PORT + number - 1}"


def start_node(testbed, processes, settings, number, place, folder):
    name = f"node{number}"
    flags = ["serve", "--listen", endpoint(settings, number, place), "--insecure", "--allow-wire-limit"]
    flags += seats(settings.node_arguments, testbed.node_flags(number)) + settings.node_arguments
    flags += ["--profile", f"{name}.svg"] if settings.profile else []
    return processes.start(place, name, ["./freight", *flags], folder / f"{name}.log")


def start_client(testbed, processes, settings, number, place, flags, folder):
    name = f"client{number}"
    given = seats(flags, testbed.client_flags(number))
    given += ["--profile", f"{name}.svg"] if settings.profile else []
    return processes.start(place, name, ["./freight", "bench", *flags, *given], folder / f"{name}.log")


def seats(flags, otherwise):
    """The testbed's flags for threads and cores, unless these have their own."""
    return [] if {"--cores", "--threads"} & {flag.split("=")[0] for flag in flags} else otherwise


def start_sampler(processes, place, folder):
    name = f"usage-{place.machine}"
    return processes.start(place, name, ["sh", "sample.sh"], folder / f"{name}.txt")


def clock_offset(processes, place):
    """How far that host's clock is ahead of ours, to half of the time that asking takes."""
    before = time.time()
    told = processes.run(place, "date +%s.%N")
    after = time.time()
    return float(told) - (before + after) / 2 if told else 0.0


def fetch(processes, process, folder):
    """A client's report, also kept in the folder."""
    text = processes.run(process.place, f"cat {process.place.folder}/{process.name}.json")
    if processes.dry_run:
        return None
    (folder / f"{process.name}.json").write_text(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ProcessError(f"{process.name} on {process.place.name} wrote no report: {error}") from error


def profiles(processes, settings, started, folder):
    for process in started if settings.profile else []:
        text = processes.run(process.place, f"cat {process.place.folder}/{process.name}.svg")
        if not processes.dry_run:
            (folder / f"{process.name}.svg").write_text(text)


def usage(samplers, offsets, nodes, drivers):
    """Readings by host, of its own where it is a machine, of its one process where many hosts are this machine."""
    found = {}
    for sampler in samplers:
        machine = sampler.place.machine
        series = readings(sampler.log.read_text(errors="replace"))
        for name, points in series.items():
            for point in points:
                point["unix_seconds"] -= offsets[machine]
            if machine == "here" and name != HOST and not name.startswith("usage"):
                found[name] = points
            elif machine != "here" and name == HOST:
                found[label(machine, nodes, drivers)] = points
    return found


def label(machine, nodes, drivers):
    """What runs there: `node1 client3 (host)`."""
    names = [f"node{i}" for i, place in enumerate(nodes, 1) if place.machine == machine]
    names += [f"client{i}" for i, place in enumerate(drivers, 1) if place.machine == machine]
    return f"{' '.join(names)} ({short(machine)})"


def short(machine):
    """A host without its user, and without its domain where it is a name."""
    host = machine.rpartition("@")[2]
    return host if host.replace(".", "").isdigit() else host.partition(".")[0]
