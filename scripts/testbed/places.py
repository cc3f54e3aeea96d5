"""Where processes run: on hosts over ssh, or in network namespaces of this machine.

Both know one thing, how to say "run this shell script there" as a command of this machine; all else is built on it. A
process that is started watches its standard input and ends with it, so it ends with this one whatever happens, here
and behind ssh.
"""
import ipaddress
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from testbed.hosts import HostsError, deal

PREFIX = "freight-"
SSH = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5"]


# What goes along with the binary.
SCRIPTS = [Path(__file__).with_name(name) for name in ("watched.sh", "sample.sh")]


@dataclass(frozen=True)
class Place:
    """A host as the run sees it: its name in reports, how a script is run there, and its address."""
    name: str
    prefix: tuple
    address: str
    folder: str
    machine: str

    def command(self, script):
        # Behind ssh a login shell of any kind reads the words once more.
        quoted = "exec sh -c " + shlex.quote(script)
        return [*self.prefix, quoted] if self.prefix[:1] == ("ssh",) else [*self.prefix, "sh", "-c", script]


class Ssh:
    """Hosts of a list; each process gets the binary that was built here, copied once a host."""

    def __init__(self, arguments, hosts, run):
        self.hosts, self.run, self.dry_run = hosts, run, arguments.dry_run
        self.subnet, self.options = arguments.subnet, shlex.split(arguments.ssh_options)
        self.folder = f"/tmp/{PREFIX}{uuid.uuid4().hex[:12]}"
        self.places, self.offsets = {}, {}

    def open(self, servers, clients, binary):
        """Copies the binary to as many hosts as there will be processes at most, and asks for their addresses."""
        nodes, drivers = deal(self.hosts, servers, clients)
        for number, host in enumerate(dict.fromkeys([*nodes, *drivers]), 1):
            # A number each: two names may lead to one host.
            folder = f"{self.folder}-{number}"
            place = Place(host.name, (*SSH, *self.options, host.name), "", folder, host.name)
            self.places[host.name] = place
            self.run(place, f"mkdir -m 700 {folder}")
            for source in [binary, *SCRIPTS]:
                copy = f"{folder}/{'freight' if source is binary else source.name}"
                self.run(place, f"cat >{copy} && chmod 700 {copy}", source)
            address = self.address_of(host, place)
            self.places[host.name] = Place(place.name, place.prefix, address, place.folder, place.machine)

    def address_of(self, host, place):
        """What its nodes listen at: as the list says, inside --subnet, or what its name stands for here."""
        if host.address:
            return host.address
        name = host.name.rpartition("@")[2]
        if self.subnet:
            told = self.run(place, "ip -o -4 address show")
            found = [a for a in re.findall(r"inet ([\d.]+)", told) if ipaddress.ip_address(a) in self.subnet]
            if not found and not self.dry_run:
                raise HostsError(f"{host.name} has no address in {self.subnet}")
            return found[0] if found else name
        if self.dry_run:
            return name
        try:
            return socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0]
        except OSError as error:
            raise HostsError(f"{host.name} has no address ({error}): write address=... behind it, or use --subnet") \
                from error

    def deal(self, servers, clients):
        nodes, drivers = deal(self.hosts, servers, clients)
        return [self.places[host.name] for host in nodes], [self.places[host.name] for host in drivers]

    def node_flags(self, number):
        """Nothing: a node takes all cores of its host."""
        return []

    client_flags = node_flags

    def close(self):
        for place in self.places.values():
            self.run(place, f"rm -rf {place.folder}", check=False)


class Local:
    """A namespace a process, on a bridge in another one: the machine's own network is not touched."""

    def __init__(self, arguments, run):
        self.run, self.dry_run = run, arguments.dry_run
        self.names, self.switch = [], f"{PREFIX}{os.getpid()}-switch"
        self.cores = sorted(os.sched_getaffinity(0))
        self.folder = f"/tmp/{PREFIX}{os.getpid()}" if self.dry_run else tempfile.mkdtemp(prefix=PREFIX)
        self.machine = Place("here", (), "127.0.0.1", self.folder, "here")

    def open(self, servers, clients, binary):
        if not self.dry_run:
            remove_stale()
        if self.dry_run:
            self.here(f"mkdir -m 700 {self.folder}")
        self.here(f"cp {shlex.quote(str(binary))} {self.folder}/freight")
        self.here(f"cp {shlex.join(map(str, SCRIPTS))} {self.folder}")
        self.namespace(self.switch)
        self.here(f"ip -n {self.switch} link add bridge type bridge && ip -n {self.switch} link set bridge up")
        for number in range(1, servers + clients + 1):
            name = f"{PREFIX}{os.getpid()}-{number}"
            self.namespace(name)
            self.here(f"ip link add eth0 netns {name} type veth peer name port{number} netns {self.switch}"
                      f" && ip -n {self.switch} link set port{number} master bridge up"
                      f" && ip -n {name} address add {self.address(number)}/16 dev eth0"
                      f" && ip -n {name} link set eth0 up && ip -n {name} link set lo up")
        self.servers_max = servers

    def namespace(self, name):
        self.names.append(name)
        self.here(f"ip netns add {name}")

    def here(self, script, check=True):
        return self.run(self.machine, script, check=check)

    @staticmethod
    def address(number):
        return f"10.77.{number // 250}.{number % 250 + 1}"

    def deal(self, servers, clients):
        def place(number, name):
            prefix = ("ip", "netns", "exec", f"{PREFIX}{os.getpid()}-{number}")
            return Place(name, prefix, self.address(number), self.folder, "here")
        return ([place(i, f"node{i}") for i in range(1, servers + 1)],
                [place(self.servers_max + i, f"client{i}") for i in range(1, clients + 1)])

    def node_flags(self, number):
        """One core each, by turns, so that they do not all land on the first."""
        return ["--threads", "1", "--cores", str(self.cores[(number - 1) % len(self.cores)])]

    def client_flags(self, number):
        """The core after its node's."""
        return ["--threads", "1", "--cores", str(self.cores[number % len(self.cores)])]

    def close(self):
        for name in self.names:
            self.here(f"ip netns delete {name}", check=False)
        if not self.dry_run:
            shutil.rmtree(self.folder, ignore_errors=True)


def remove_stale():
    """Namespaces of a run that was killed outright; its processes have ended by themselves."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for name, pid in re.findall(rf"^({PREFIX}(\d+)-\w+)", listed, re.M):
        if not Path(f"/proc/{pid}").exists():
            # Another run may be about it too.
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def become_root():
    """Namespaces need root; in a user namespace of its own everybody is, where the kernel allows that."""
    if shutil.which("ip") is None:
        sys.exit("cluster: --local needs `ip` (Debian: iproute2)")
    if os.environ.get("FREIGHT_CLUSTER_UNSHARED"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        return
    if os.geteuid() == 0:
        return
    shell = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"]
    if shutil.which("unshare") and subprocess.run([*shell, "true"], capture_output=True, check=False).returncode == 0:
        environment = os.environ | {"FREIGHT_CLUSTER_UNSHARED": "1"}
        os.execvpe(shell[0], [*shell, sys.executable, *sys.argv], environment)
    sys.exit("cluster: --local makes network namespaces: that takes root, or a kernel that lets users have their own")
