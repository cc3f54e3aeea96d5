"""Processes on hosts: started, waited for by a line of their log, stopped whatever happens.

What is started runs under scripts/testbed/watched.sh, which watches its standard input. When that ends, because it is
closed here, because this process has died, or because ssh has lost its host, the process is told to stop (SIGTERM), and
killed after a while. So nothing is left behind that only a second connection could stop.
"""
import shlex
import subprocess
import sys
import time

STOP_SECONDS = 20
# What `freight bench` ends with where there is a report: without errors, and with some.
REPORTED = (0, 1)


class ProcessError(Exception):
    """A process did not do what it was started for; in a few lines."""


class Processes:
    """All that a run has started. With dry_run nothing is: each command is printed."""

    def __init__(self, dry_run):
        self.dry_run, self.running = dry_run, []

    def run(self, place, script, source=None, check=True):
        """Runs a script there to its end; its output. `source` is a file for its standard input."""
        command = place.command(script)
        if self.dry_run:
            print(shlex.join(command) + (f" <{shlex.quote(str(source))}" if source else ""), flush=True)
            return ""
        with open(source or "/dev/null", "rb") as given:
            done = subprocess.run(command, stdin=given, capture_output=True, start_new_session=True, check=False)
        if check and done.returncode:
            raise ProcessError(f"{place.name}: `{script}` failed ({done.returncode}): "
                               f"{done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def start(self, place, name, command, log):
        """Starts a process there whose output goes to the file `log` here."""
        arguments = place.command(f"cd {place.folder} && exec sh watched.sh {name} {shlex.join(command)}")
        if self.dry_run:
            print(shlex.join(arguments), flush=True)
            return Process(place, name, log, None)
        with open(log, "wb") as output:
            started = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                                       start_new_session=True)
        process = Process(place, name, log, started)
        self.running.append(process)
        return process

    def wait_for_line(self, processes, beginning, seconds):
        """Until a line of each process's log begins so; nothing else may end meanwhile."""
        self.wait(lambda: all(process.has_line(beginning) for process in processes), seconds,
                  lambda: f"no line '{beginning}' of " +
                  ", ".join(process.name for process in processes if not process.has_line(beginning)))

    def wait_for_end(self, processes, seconds):
        """Until each of these clients has ended, with a report."""
        self.wait(lambda: all(process.code() in REPORTED for process in processes), seconds,
                  lambda: ", ".join(process.name for process in processes if process.code() is None) + " did not end")

    def wait(self, is_done, seconds, what):
        if self.dry_run:
            return
        end = time.monotonic() + seconds
        while not is_done():
            for process in self.running:
                # A client may be done; whatever else ends, ends the run.
                done = process.name.startswith("client") and process.code() in REPORTED
                if process.code() is not None and not done:
                    raise ProcessError(process.obituary())
            if time.monotonic() > end:
                raise ProcessError(f"after {seconds} s: {what()}")
            time.sleep(0.05)

    def stop(self):
        """Stops all, and returns when they have ended."""
        for process in self.running:
            process.close()
        end = time.monotonic() + STOP_SECONDS
        for process in self.running:
            try:
                process.started.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"cluster: {process.name} on {process.place.name} does not stop", file=sys.stderr)
                process.started.kill()
        self.running = []


class Process:
    """One of them."""

    def __init__(self, place, name, log, started):
        self.place, self.name, self.log, self.started = place, name, log, started

    def code(self):
        return self.started.poll()

    def lines(self):
        return self.log.read_text(errors="replace").splitlines()

    def has_line(self, beginning):
        return any(line.startswith(beginning) for line in self.lines())

    def say(self, line):
        """Writes to its standard input."""
        if self.started is None:
            print(f"# to {self.name}: {line}", flush=True)
            return
        try:
            self.started.stdin.write(line.encode() + b"\n")
            self.started.stdin.flush()
        except BrokenPipeError as error:
            raise ProcessError(self.obituary()) from error

    def close(self):
        try:
            self.started.stdin.close()
        except BrokenPipeError:
            pass

    def obituary(self):
        last = "\n".join(f"    {line}" for line in self.lines()[-5:]) or "    (nothing)"
        return f"{self.name} on {self.place.name} ended with {self.code()}, in the middle of the run. It said:\n{last}"
