"""Starting, watching and ending the processes of a run."""
from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from demo.hosts import Hosts

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
STOP_SECONDS = 10


class RunError(Exception):
    """Something a person must be told; what to do about it is part of the text."""


class Process:
    """A process on one of the hosts, leader of its own session: Ctrl-C reaches only us, its children count as it."""

    def __init__(self, name: str, host: str, popen: subprocess.Popen, log: Path) -> None:
        self.name = name
        self.host = host
        self.popen = popen
        self.log = log

    @property
    def pid(self) -> int:
        return self.popen.pid

    def log_tail(self, lines: int = 12) -> str:
        return "\n".join("    " + line for line in self.log.read_text(errors="replace").splitlines()[-lines:])

    def must_live(self) -> None:
        code = self.popen.poll()
        if code is not None:
            raise RunError(f"{self.name} on {self.host} ended by itself (exit {code}). Its last words:\n"
                           f"{self.log_tail()}")


class Processes:
    """All processes of a run, in the order they were started; ended in reverse, whatever happens."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts = hosts
        self.folder = folder
        self.all: list[Process] = []

    def start(self, name: str, host: str, command: list[str], *, driven: bool = False) -> Process:
        """Starts a command on a host. Errors go to a log; so does output, unless it is `driven` through pipes."""
        log = self.folder / f"{host}-{name}.log"
        environment = dict(os.environ, PYTHONUNBUFFERED="1", **self.hosts.environment(host))
        with open(log, "ab") as sink:
            popen = subprocess.Popen(
                self.hosts.command(host, command), env=environment, stderr=sink,
                stdin=subprocess.PIPE if driven else subprocess.DEVNULL, stdout=subprocess.PIPE if driven else sink,
                text=True if driven else None, bufsize=1 if driven else -1,
                start_new_session=True, preexec_fn=die_with_parent)
        self.all.append(Process(name, host, popen, log))
        return self.all[-1]

    def start_sidecar(self, binary: Path, host: str, name: str, config: Path) -> Process:
        return self.start(f"sidecar-{name}", host, [str(binary), "--config", str(config), "--sidecar", name])

    def must_live(self) -> None:
        for process in self.all:
            process.must_live()

    def stop(self) -> list[str]:
        """Ends everything; returns a line for each process that had to be killed."""
        complaints = []
        for process in reversed(self.all):
            if process.popen.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # with the children it has at the moment
            if process.popen.stdin:
                process.popen.stdin.close()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.all:
            try:
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                complaints.append(f"{process.name} on {process.host} did not end in {STOP_SECONDS} s and was killed")
                process.popen.kill()
                process.popen.wait()
            if process.popen.stdout:
                process.popen.stdout.close()
        self.all.clear()
        return complaints


def die_with_parent() -> None:
    """Runs in the child: should tools/run be killed outright, nothing it started lives on."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for_log(process: Process, word: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while word not in process.log.read_text(errors="replace"):
        process.must_live()
        if time.monotonic() > deadline:
            raise RunError(f"{process.name} on {process.host} did not log {word!r} within {seconds:.0f} s:\n"
                           f"{process.log_tail()}")
        time.sleep(0.02)


def wait_for_answers(processes: Processes, host: str, targets: list[str], seconds: float = 25) -> None:
    """Returns when a health_check of each host:port got an answer that is not the mesh's own error. An open port is no
    readiness, and an agent may take 20 s to load."""
    asker = Path(__file__).parent / "wait_for_answers.py"
    done = subprocess.run(processes.hosts.command(host, [sys.executable, str(asker), str(seconds), *targets]),
                          capture_output=True, text=True, timeout=seconds + 15, check=False, stdin=subprocess.DEVNULL)
    processes.must_live()
    if done.returncode != 0:
        raise RunError(f"on {host}, no answer within {seconds:.0f} s from:\n{done.stdout}{done.stderr}"
                       f"The logs are in {processes.folder} (with --keep-logs they stay).")
