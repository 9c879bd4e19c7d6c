"""What machine this is, and whether it is busy with something else."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

QUIET_SHARE = 0.08
"""The machine is quiet when others spend no more than this share of its cores' time."""
SAMPLE_SECONDS = 0.5


def describe(node: Path) -> str:
    """One line: cores, kernel, versions."""
    version = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({_cpu_model()}), {_memory_gib():.0f} GiB, Linux {platform.release()}, Node {version}"


class Watch:
    """How much of the machine others use, from its making on. Our own processes must be the same at both ends."""

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._pids = list(pids)
        self._begun = time.monotonic()
        self._spent = self._others_seconds()

    def others_share(self) -> float:
        """The share of all cores' time that went to none of our processes."""
        available = (time.monotonic() - self._begun) * os.cpu_count()
        return max(0.0, self._others_seconds() - self._spent) / available

    def _others_seconds(self) -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() + children.ru_utime + children.ru_stime
        return _machine_seconds() - own - sum(map(cpu_seconds, self._pids))


def wait_until_quiet(patience_seconds: float) -> bool:
    """Holds the next measurement back while others use the machine; false if they did so all the time."""
    deadline = time.monotonic() + patience_seconds
    while True:
        watch = Watch()
        time.sleep(SAMPLE_SECONDS)
        if watch.others_share() <= QUIET_SHARE:
            return True
        if time.monotonic() > deadline:
            return False


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far: all its threads, not its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    utime, stime = int(fields[11]), int(fields[12])
    return (utime + stime) / os.sysconf("SC_CLK_TCK")


def _machine_seconds() -> float:
    """What all cores have spent on processes, and what a hypervisor took from them. The time of interrupts is left out:
    kernels differ in whether it is part of a process's time too.
    """
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, steal = fields[0], fields[1], fields[2], fields[7]
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
