"""What is measured of one contender in one round. The order is the same for all: start, warm-up, load, reload."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import load, machine, watchers
from .contenders import SERVER, Contender, Settings, prepare
from .failure import Failure
from .program import DEADLINE_SECONDS, Program

WARM_UP_SECONDS = 1
"""Each kind of load is run so long before it counts."""
RESPAWN_SPACING_SECONDS = 1.0
"""Ours begins a generation no sooner than this after the one before."""

Figures = dict[str, float]


def bare_start(settings: Settings) -> Figures:
    """Starts the server without a cluster: alone, and as many at once as a cluster has workers."""
    _bare_start(settings, 1)  # Brings node's files into the page cache.
    return {
        "bare_ms": _bare_start(settings, 1),
        "bare_all_ms": _bare_start(settings, settings.workers),
    }


def _bare_start(settings: Settings, count: int) -> float:
    """From the start of the first process until the last one listens, in milliseconds."""
    with ExitStack() as stack:
        programs = []
        for _ in range(count):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recluster-bench-")))
            programs.append(stack.enter_context(Program([str(settings.node), str(SERVER)], {}, directory)))
        last = max(program.wait_until_listening(1)[0]["time"] for program in programs)
        return (last - programs[0].started_ns) / 1e6


def contender(contender: Contender, settings: Settings) -> Figures:
    """All figures of one contender."""
    with started(contender, settings) as running:
        cluster, port = running.cluster, running.port
        watch = running.watch()
        figures = _under_load(cluster, port, settings.seconds)
        figures["others_share"] = watch.others_share()
        if contender.reloads:
            figures |= _reload(cluster, port, settings.workers)
        if contender.is_ours:
            figures |= _verdict(cluster, settings, running.control)
        return figures


@dataclass(frozen=True)
class Running:
    """A contender whose workers all listen and answer."""

    cluster: Program
    control: Path
    """Ours: the control socket."""
    port: int
    workers: list[int]
    """Their pids."""

    def watch(self) -> machine.Watch:
        """Begins to look at what others use of the machine. The workers must be the same at the end."""
        return machine.Watch([self.cluster.pid, *self.workers])


@contextmanager
def started(contender: Contender, settings: Settings) -> Iterator[Running]:
    """Starts a contender, and ends it with everything that belongs to it."""
    environment = prepare(contender, settings)
    with tempfile.TemporaryDirectory(prefix="recluster-bench-") as name:
        directory = Path(name)
        control = directory / "control" / "socket"
        with (
            Program(contender.command(settings, control), environment, directory) as cluster,
            ExitStack() as stack,
        ):
            workers = cluster.wait_until_listening(settings.workers)
            port = _port(workers)
            load.answering_pid(port)
            if contender.is_watched:
                stack.enter_context(watchers.looking(settings.recluster, control))
            yield Running(cluster, control, port, [event["pid"] for event in workers])


def _under_load(cluster: Program, port: int, seconds: int) -> Figures:
    for keep_alive in (False, True):
        load.run(port, WARM_UP_SECONDS, keep_alive)
    cpu_before = cluster.cpu_seconds()
    fresh = load.run(port, seconds, keep_alive=False)
    cpu = cluster.cpu_seconds() - cpu_before
    kept = load.run(port, seconds, keep_alive=True)
    return {
        "connections": fresh.per_second,
        "connections_p99_ms": fresh.p99_ms,
        "requests": kept.per_second,
        "requests_p99_ms": kept.p99_ms,
        "primary_mib": cluster.resident_bytes() / 2**20,
        "primary_us": cpu / fresh.requests * 1e6,
    }


def _reload(cluster: Program, port: int, workers: int) -> Figures:
    """Reloads by signal, without load, and waits until the old workers are gone and a new one answers."""
    old = frozenset(event["pid"] for event in cluster.events("listening"))
    begun = time.monotonic_ns()
    cluster.process.send_signal(signal.SIGUSR2)
    fresh = cluster.wait_until_listening(workers, known=old)
    if _port(fresh) != port:
        raise Failure(f"after the reload the workers listen on port {_port(fresh)} instead of {port}")
    cluster.wait_until(lambda: not any(map(_lives, old)), "the old workers are gone")
    if load.answering_pid(port) not in {event["pid"] for event in fresh}:
        raise Failure("after the reload the answer is not a new worker's")
    figures = {"reload_ms": (max(event["time"] for event in fresh) - begun) / 1e6}
    verdicts = cluster.events("verdict")
    if verdicts:
        figures["verdict_ms"] = (verdicts[0]["time"] - begun) / 1e6
    return figures


def _verdict(cluster: Program, settings: Settings, control: Path) -> Figures:
    """Reloads by ours' command, which ends when the verdict is there."""
    old = frozenset(event["pid"] for event in cluster.events("listening"))
    # The reload before must not count: a generation is begun only so long after its predecessor.
    time.sleep(RESPAWN_SPACING_SECONDS)
    begun = time.monotonic_ns()
    command = [str(settings.recluster), "reload", "--control", str(control)]
    client = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    ended = time.monotonic_ns()
    if client.returncode != 0:
        raise Failure(f"recluster reload ended with status {client.returncode}: {client.stderr.strip()}")
    cluster.wait_until_listening(settings.workers, known=old)
    return {"verdict_ms": (ended - begun) / 1e6}


def _port(events: list[dict]) -> int:
    ports = {event["port"] for event in events}
    if len(ports) != 1:
        raise Failure(f"the workers do not share one port: {sorted(ports)}")
    return ports.pop()


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
