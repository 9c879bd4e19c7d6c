"""Starts a program and ends it again with everything it started, and reads what /proc says about it.

Every program is given a file of its own in BENCH_EVENTS, which its children inherit. The server reports its
events there, and what has to be ended is recognised by that variable.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from . import machine
from .failure import Failure

DEADLINE_SECONDS = 30.0
"""How long anything but the load itself may take."""
STOP_SECONDS = 10.0
"""How long a primary may take to end when it is told to, before it is killed."""
POLL_SECONDS = 0.002
FOREIGN_VARIABLES = ("NODE_", "RECLUSTER_", "WEB_CONCURRENCY", "WORKER_ID")
"""How variables begin that, inherited from the caller, could make the contenders unequal."""


class Program:
    """A running program: a context manager that leaves no process of it behind."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self.events_file = directory / "events"
        self.events_file.touch()
        self.output = directory / "output"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN_VARIABLES)}
        with self.output.open("wb") as output:
            self.started_ns = time.monotonic_ns()
            self.process = subprocess.Popen(
                command,
                env={**inherited, **environment, "PORT": "0", "BENCH_EVENTS": str(self.events_file)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        mark = f"BENCH_EVENTS={self.events_file}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                kill_if_marked(int(entry.name), mark)

    @property
    def pid(self) -> int:
        """The process that was started: of a cluster, the primary."""
        return self.process.pid

    def events(self, kind: str) -> list[dict]:
        """What has been reported so far. A line that is still being written is left for the next time."""
        lines = self.events_file.read_text().split("\n")[:-1]
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def wait_until_listening(self, workers: int, known: frozenset[int] = frozenset()) -> list[dict]:
        """Waits until so many workers listen that are not `known` by their pid; returns their events."""
        fresh: dict[int, dict] = {}

        def all_listen() -> bool:
            fresh.update((e["pid"], e) for e in self.events("listening") if e["pid"] not in known)
            return len(fresh) >= workers

        self.wait_until(all_listen, f"{workers} workers listen")
        if len(fresh) > workers:
            raise Failure(f"{len(fresh)} workers were started where {workers} were asked for")
        return list(fresh.values())

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Polls until the condition holds; fails at the deadline, or when the program has ended."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if self.process.poll() is not None:
                raise Failure(f"ended with status {self.process.returncode} before {what}{self._tail()}")
            if time.monotonic() > deadline:
                raise Failure(f"not within {DEADLINE_SECONDS:.0f} s: {what}{self._tail()}")
            time.sleep(POLL_SECONDS)

    def cpu_seconds(self) -> float:
        """User and system time of the primary so far: all its threads, not its children."""
        return machine.cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        """VmRSS of the primary."""
        for line in self._proc("status").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise Failure(f"the primary has ended{self._tail()}")

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def _tail(self) -> str:
        lines = self.output.read_text(errors="replace").strip().splitlines()[-5:]
        return "; its last output: " + " / ".join(lines) if lines else ""


def kill_if_marked(pid: int, mark: bytes) -> None:
    """Kills the process if its environment holds the mark. The pidfd makes sure that it is the process looked at."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        return  # It has ended by itself, or it is another user's.
    finally:
        os.close(pidfd)
