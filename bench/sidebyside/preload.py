"""CPU time of a worker for a request on a kept connection, with the file that Node workers load and without."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median

from . import load, report
from .contenders import Contender, Settings
from .failure import Failure
from .measure import Running, started
from .rounds import progress

WITHOUT, WITH, COUNTING = "ours-rr-plain", "ours-rr", "ours-rr-http"
WARM_UPS = 3
"""How many loads come before those that count: until then code is still being compiled."""


@dataclass(frozen=True)
class Four:
    """Two clusters without the file, one with it and one that counts requests, which ran at the same time: the median of each one's loads."""

    without: float
    """CPU time of the worker for a request, in µs."""
    again: float
    with_it: float
    counting: float


def measure(number: int, of: int, contenders: list[Contender], settings: Settings) -> Four:
    """Starts four clusters of one worker, and loads them in turn; each round begins with another one."""
    progress(f"start {number} of {of}")
    known = {contender.name: contender for contender in contenders}
    names = [WITHOUT, WITHOUT, WITH, COUNTING]
    # Where a process lies in memory must not depend on when it was started.
    turned = names[number % 4 :] + names[: number % 4]
    with ExitStack() as stack:
        running = [stack.enter_context(started(known[name], settings)) for name in turned]
        figures = rounds(running, settings)
    without = [median(figures[at]) for at, name in enumerate(turned) if name == WITHOUT]
    return Four(*without, *(median(figures[turned.index(name)]) for name in (WITH, COUNTING)))


def rounds(running: list[Running], settings: Settings) -> list[list[float]]:
    """The figures of each, in the same order."""
    figures: list[list[float]] = [[] for _ in running]
    for number in range(WARM_UPS + settings.rounds):
        first = number % len(running)
        for at in [*range(first, len(running)), *range(first)]:
            cost = cost_of_a_request(running[at], settings.seconds)
            if number >= WARM_UPS:
                figures[at].append(cost)
    return figures


def cost_of_a_request(running: Running, seconds: int) -> float:
    """CPU time of the worker, in µs: all its threads, so that the collection of garbage is in it."""
    [worker] = running.workers
    before = nanoseconds(worker)
    answered = load.run(running.port, seconds, keep_alive=True).requests
    return (nanoseconds(worker) - before) / answered / 1e3


def nanoseconds(pid: int) -> int:
    """What the threads of a process have run so far, as the scheduler counts it."""
    try:
        tasks = [task / "schedstat" for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(task.read_text().split()[0]) for task in tasks)
    except OSError as error:
        raise Failure(f"the kernel does not say what the worker has run: {error}") from error


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and between what it is with 95 % confidence: by the order of the values, so of any distribution."""
    ordered, count = sorted(values), len(values)
    chances = accumulate(math.comb(count, left_out) / 2**count for left_out in range(count))
    # How many may be left out at either end.
    left_out = max(sum(2 * chance <= 0.05 for chance in chances) - 1, 0)
    return median(ordered), ordered[left_out], ordered[-1 - left_out]


def table(starts: list[Four], settings: Settings) -> str:
    """The outcome as markdown."""
    cost = median(start.without for start in starts)

    def row(title: str, ratios: list[float]) -> str:
        middle, low, high = interval(ratios)
        percent = [f"{(ratio - 1) * 100:+.2f} %" for ratio in (middle, low, high)]
        micros = [f"{(ratio - 1) * cost:+.3f}" for ratio in (middle, low, high)]
        return report.line(title, [f"{middle} ({low} to {high})" for middle, low, high in (percent, micros)])

    return "\n".join(
        [
            f"Starts of four clusters: {len(starts)}, one worker each. Loads of each that count: {settings.rounds}, each "
            f"{settings.seconds} s over {load.CONNECTIONS} connections.\nWithout the file a request costs the worker "
            f"{cost:.1f} µs.\n",
            report.line("", ["CPU time of the worker for a request, against without the file", "in µs"]),
            report.line("---", ["---", "---"]),
            row("with the file", [start.with_it / start.without for start in starts]),
            row("with it, `--worker-metrics http`", [start.counting / start.without for start in starts]),
            row("the same against with the file alone", [start.counting / start.with_it for start in starts]),
            row("without it, another process", [start.again / start.without for start in starts]),
        ]
    )
