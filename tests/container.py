#!/usr/bin/env python3
"""The container in the hands of a user: loaded, started as the user that it names, asked, drained.

usage: python3 tests/container.py freight-VERSION-container.tar     (made by scripts/package container)

buildah runs it, in a folder that is gone afterwards, with the network of this machine. Needs root.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

sys.dont_write_bytecode = True
import facts  # noqa: E402  (no bytecode beside it)

ENDPOINT = "tcp://127.0.0.1:17411"
SETTINGS = f'listen = ["{ENDPOINT}"]\n'


def main():
    global archive, buildah, container, settings
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if os.geteuid() != 0:
        print("not run: needs root")
        sys.exit(77)
    archive = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = pathlib.Path(folder) / "freight.toml"
        settings.write_text(SETTINGS)
        buildah = ["buildah", "--storage-driver", "vfs", "--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        container = run(*buildah, "from", f"docker-archive:{archive}").strip()
        code = facts.run([it_holds_the_binary_and_nothing_else, it_serves_as_a_user_of_its_own_and_drains,
                          what_is_wrong_is_said_in_a_line])
        run(*buildah, "rm", container)
    sys.exit(code)


def it_holds_the_binary_and_nothing_else():
    with tarfile.open(archive) as image:
        manifest = json.load(image.extractfile("manifest.json"))[0]
        files = []
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as inside:
                files += [member.name for member in inside if member.isfile()]
        config = json.load(image.extractfile(manifest["Config"]))["config"]
    assert files == ["freight"], files
    assert config["User"] == "65532:65532" and config["Entrypoint"] == ["/freight"], config
    assert config["Cmd"] == ["serve", "--config", "/etc/freight/freight.toml"], config


def it_serves_as_a_user_of_its_own_and_drains():
    node = subprocess.Popen(inside("serve", "--config", "/etc/freight/freight.toml"), stdout=subprocess.PIPE, text=True,
                            process_group=0)
    try:
        said = node.stdout.readline()
        assert ENDPOINT in said, said
        process = served_by()
        assert os.stat(f"/proc/{process}").st_uid == 65532
        run(*inside("put", "key", "value", "--servers", ENDPOINT))
        assert run(*inside("get", "key", "--servers", ENDPOINT)).strip() == "value"
        os.kill(process, signal.SIGTERM)
        assert node.wait(60) == 0, node.returncode
    finally:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)


def what_is_wrong_is_said_in_a_line():
    settings.write_text("lisen = 1\n")
    done = subprocess.run(inside("serve", "--config", "/etc/freight/freight.toml"), text=True, capture_output=True)
    settings.write_text(SETTINGS)
    assert done.returncode != 0 and "'listen'" in done.stderr.replace('"', "'").replace("`", "'"), done


def inside(*words):
    """A command in the container: the settings stand where its own command expects them."""
    volume = f"{settings}:/etc/freight/freight.toml:ro"
    return [*buildah, "run", "--isolation", "chroot", "--volume", volume, container, "--", "/freight", *words]


def served_by():
    """The node's process: of those of the image it is the one that serves."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for process in pathlib.Path("/proc").iterdir():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"/freight", b"serve"]:
                return int(process.name)
    raise AssertionError("no node")


def run(*command):
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main()
