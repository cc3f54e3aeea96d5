"""Which hosts there are: names as people, Slurm and MPI write them.

    parse("node[0-3,7] slots=2 address=10.10.1.1")      lines of a file; `#` begins a comment
    deal(hosts, 4, 4)                                   a host for each node and for each client

A host takes as many processes as it has slots (1). Nodes and clients are dealt one a host first, nodes from the front;
a second slot is used only when every host has a process.
"""
import os
import re
import subprocess
from dataclasses import dataclass


class HostsError(Exception):
    """What is wrong with the list of hosts, in one line."""


@dataclass(frozen=True)
class Host:
    """Where ssh finds it, how many processes it takes, and where its nodes listen (None: at its name's address)."""
    name: str
    slots: int = 1
    address: str | None = None


def parse(text):
    """Hosts of a file's text: plain names, `host slots=N` and `host:N` of MPI, ranges in brackets of Slurm."""
    hosts = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        names, slots, address = words[0], 1, None
        if found := re.fullmatch(r"([^:]+):(\d+)", names):
            names, slots = found[1], int(found[2])
        for word in words[1:]:
            key, _, value = word.partition("=")
            if key == "slots" and value.isdigit():
                slots = int(value)
            elif key == "address" and value:
                address = value
            elif key != "max_slots" and key != "max-slots":
                raise HostsError(f"line {number}: '{word}' is neither slots=N nor address=ADDRESS")
        if slots < 1:
            raise HostsError(f"line {number}: a host has one slot at least")
        expanded = expand(names)
        if address and len(expanded) > 1:
            raise HostsError(f"line {number}: one address for {len(expanded)} hosts")
        hosts += [Host(name, slots, address) for name in expanded]
    names = [host.name for host in hosts]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise HostsError(f"{doubled[0]} stands there twice: say slots=2")
    return hosts


def expand(names):
    """`a,b[1-3,07-08].lan` as Slurm writes it: a b1.lan b2.lan b3.lan b07.lan b08.lan."""
    hosts = []
    for name in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", names):
        hosts += expand_one(name)
    if not hosts or any(not re.fullmatch(r"[A-Za-z0-9._@-]+", host) or host.startswith("-") for host in hosts):
        raise HostsError(f"'{names}' is no list of hosts")
    return hosts


def expand_one(name):
    before, bracket, rest = name.partition("[")
    if not bracket:
        return [name]
    inside, _, after = rest.partition("]")
    found = []
    for part in inside.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise HostsError(f"'{name}': [{inside}] is no range of numbers")
        numbers = range(int(first), int(last or first) + 1)
        found += [f"{before}{number:0{len(first)}}{end}" for number in numbers for end in expand_one(after)]
    return found


def of_slurm():
    """The hosts of this Slurm job."""
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if not nodes:
        raise HostsError("--slurm is for inside a job: SLURM_JOB_NODELIST is not set (salloc -N 8)")
    try:
        named = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return parse(named.stdout)
    except (OSError, subprocess.CalledProcessError):
        return [Host(name) for name in expand(nodes)]


def deal(hosts, servers, clients):
    """A host for each of so many nodes, and for each of so many clients."""
    seats = [host for turn in range(max((host.slots for host in hosts), default=0)) for host in hosts
             if turn < host.slots]
    if servers + clients > len(seats):
        raise HostsError(f"{servers} nodes and {clients} clients need {servers + clients} slots, and there are "
                         f"{len(seats)} on {len(hosts)} hosts: name more hosts, or slots=N behind one")
    return seats[:servers], seats[servers:servers + clients]
