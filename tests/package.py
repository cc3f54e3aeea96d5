#!/usr/bin/env python3
"""The Debian package in the hands of a user: installed, started, asked, reloaded, upgraded, removed.

usage: python3 tests/package.py OLDER.deb NEWER.deb

Needs root: it installs into a copy of this machine's files that lies in memory and is gone afterwards. systemd does
not run there; the test does what the unit says, as the unit's user.
"""
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
OLDER, NEWER = "/tmp/older.deb", "/tmp/newer.deb"
SETTINGS = pathlib.Path("/etc/freight/freight.toml")
ENDPOINT = ["--servers", "tcp://127.0.0.1:7411"]
sys.dont_write_bytecode = True
import facts  # noqa: E402  (no bytecode beside it)


def main():
    if sys.argv[1:] == ["--inside"]:
        sys.exit(facts.run([it_installs, the_unit_is_valid, manual_and_completions_are_there, it_serves_as_its_user,
                            settings_are_read_again, an_upgrade_keeps_settings, a_removal_leaves_settings,
                            a_purge_leaves_nothing]))
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if os.geteuid() != 0:
        print("not run: needs root")
        sys.exit(77)
    sys.exit(in_a_copy(*sys.argv[1:]))


def in_a_copy(older, newer):
    """Runs this test where nothing that it does lasts: a layer in memory over this machine's files."""
    with tempfile.TemporaryDirectory() as folder:
        layers = pathlib.Path(folder)
        script = f"""
            set -e
            mount -t tmpfs layers {layers}
            mkdir {layers}/upper {layers}/work {layers}/machine
            mount -t overlay machine -o lowerdir=/,upperdir={layers}/upper,workdir={layers}/work {layers}/machine
            mount -t proc proc {layers}/machine/proc
            mount --rbind /dev {layers}/machine/dev
            mount -t tmpfs tmp {layers}/machine/tmp
            mount -t tmpfs run {layers}/machine/run
            cp {older} {layers}/machine{OLDER}
            cp {newer} {layers}/machine{NEWER}
            cp -r {ROOT}/tests {layers}/machine/tmp/tests
            ip link set lo up
            exec chroot {layers}/machine python3 /tmp/tests/package.py --inside
        """
        apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        return subprocess.run([*apart, "bash", "-c", script]).returncode


def it_installs():
    run("dpkg", "-i", OLDER)
    user = pwd.getpwnam("freight")
    assert user.pw_shell.endswith("nologin") and user.pw_uid < 1000, user
    assert oct(SETTINGS.stat().st_mode)[-3:] == "640", oct(SETTINGS.stat().st_mode)
    assert "freight" in run("freight", "--version")


def the_unit_is_valid():
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/freight.service"],
                          text=True, capture_output=True)
    about_us = [line for line in said.stderr.splitlines() if "freight" in line]
    assert said.returncode == 0 and not about_us, said


def manual_and_completions_are_there():
    assert "freight-serve" in run("man", "--pager=cat", "--local-file", "/usr/share/man/man1/freight-serve.1.gz")
    run("bash", "-n", "/usr/share/bash-completion/completions/freight")


def it_serves_as_its_user():
    with Node() as node:
        assert os.stat(f"/proc/{node.process.pid}").st_uid == pwd.getpwnam("freight").pw_uid
        run("freight", "put", "key", "value", *ENDPOINT)
        assert run("freight", "get", "key", *ENDPOINT).strip() == "value"
    assert node.process.returncode == 0, node.process.returncode
    assert "STOPPING=1" in node.told, node.told


def settings_are_read_again():
    before = SETTINGS.read_text()
    with Node() as node:
        SETTINGS.write_text(before.replace('log-level = "info"', 'log-level = "debug"'))
        node.process.send_signal(signal.SIGHUP)
        node.wait_for("RELOADING=1")
        node.wait_for("READY=1")
    SETTINGS.write_text(before)


def an_upgrade_keeps_settings():
    SETTINGS.write_text(SETTINGS.read_text() + "# mine\n")
    before = run("freight", "--version")
    run("dpkg", "-i", "--force-confold", NEWER)
    assert SETTINGS.read_text().endswith("# mine\n")
    installed = run("dpkg-query", "--show", "--showformat=${Version}", "freight")
    assert installed == run("dpkg-deb", "--field", NEWER, "Version").strip() != "", (installed, before)
    with Node():
        assert run("freight", "ping", *ENDPOINT)


def a_removal_leaves_settings():
    run("dpkg", "--remove", "freight")
    assert shutil.which("freight") is None
    assert SETTINGS.exists()


def a_purge_leaves_nothing():
    run("dpkg", "--purge", "freight")
    assert not SETTINGS.parent.exists()
    left = [path for path in ("/usr/lib/systemd/system/freight.service", "/usr/lib/sysusers.d/freight.conf",
                              "/usr/share/doc/freight", "/usr/share/man/man1/freight.1.gz") if os.path.exists(path)]
    assert not left, left


class Node:
    """The service's command as the service's user, and what it tells the service manager."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        os.chmod(self.folder.name, 0o777)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(f"{self.folder.name}/notify")
        os.chmod(f"{self.folder.name}/notify", 0o777)
        self.manager.settimeout(60)
        self.told = []
        command = next(line.removeprefix("ExecStart=") for line in unit() if line.startswith("ExecStart="))
        self.process = subprocess.Popen(
            ["setpriv", "--reuid", "freight", "--regid", "freight", "--init-groups", *command.split()],
            env={"NOTIFY_SOCKET": f"{self.folder.name}/notify", "PATH": os.environ["PATH"]})
        self.wait_for("READY=1")
        return self

    def wait_for(self, word):
        while True:
            lines = self.manager.recv(4096).decode().splitlines()
            self.told += lines
            if word in lines:
                return

    def __exit__(self, *failure):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.manager.setblocking(False)
        try:
            while True:
                self.told += self.manager.recv(4096).decode().splitlines()
        except BlockingIOError:
            pass
        self.manager.close()
        self.folder.cleanup()


def unit():
    return pathlib.Path("/usr/lib/systemd/system/freight.service").read_text().splitlines()


def run(*command):
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, text=True, capture_output=True, env=environment)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main()
