"""How new connections reach the workers of one contender, in one round. The order is the same for all."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from . import load
from .contenders import BENCH, Contender, Settings
from .failure import Failure
from .measure import WARM_UP_SECONDS, Figures, Running, started
from .mixed import Mixed
from .report import Results, Row, cell, disturbances, failures, line

SERVER = BENCH / "balance-server.js"

COLUMNS = [
    Row("connections", "new connections/s ↑", 0),
    Row("primary_percent", "CPU of the master meanwhile, % ↓", 1, compared=False),
    Row("p90_ms", "p90 beside blocking requests, ms ↓", 1, compared=False),
    Row("p99_ms", "p99, ms ↓", 1, compared=False),
    Row("fullest_percent", "fullest worker, % of held connections ↓", 1, compared=False),
    Row("fullest_ratio", "fullest ÷ mean ↓", 2, compared=False),
]


@dataclass(frozen=True)
class Round:
    """Measures contenders in one round."""

    program: Path
    """`mixed-load`."""
    seed: int
    """Requests come at the same moments for all contenders of the round, and at others in the next."""

    def measure(self, contender: Contender, settings: Settings) -> Figures:
        """All figures of one contender."""
        with started(contender, settings) as running:
            mixed = Mixed(self.program, running.port)
            watch = running.watch()
            figures = _new_connections(running, settings.seconds)
            mixed.beside(WARM_UP_SECONDS, self.seed)
            beside = mixed.beside(settings.seconds, self.seed)
            figures |= {"p90_ms": beside.p90_ms, "p99_ms": beside.p99_ms, "late_p99_ms": beside.late_p99_ms}
            figures |= _fullest(mixed.hold(), running.workers)
            figures["others_share"] = watch.others_share()
            return figures


def _new_connections(running: Running, seconds: int) -> Figures:
    """Connections as fast as they are answered, and what the primary spends of one core meanwhile."""
    load.run(running.port, WARM_UP_SECONDS, keep_alive=False)
    begun, cpu_before = time.monotonic(), running.cluster.cpu_seconds()
    fresh = load.run(running.port, seconds, keep_alive=False)
    cpu, elapsed = running.cluster.cpu_seconds() - cpu_before, time.monotonic() - begun
    return {"connections": fresh.per_second, "primary_percent": cpu / elapsed * 100}


def _fullest(held: dict[int, int], workers: list[int]) -> Figures:
    """The worker with the most connections, against all and against the mean. A worker may have none."""
    strangers = held.keys() - set(workers)
    if strangers:
        raise Failure(f"answers came from {sorted(strangers)}, which are none of the workers {sorted(workers)}")
    share = max(held.values()) / sum(held.values())
    return {"fullest_percent": share * 100, "fullest_ratio": share * len(workers)}


def table(results: Results, contenders: list[Contender]) -> str:
    """The outcome for one number of workers as markdown: the table, what disturbed it, the failures."""
    lines = [line("", [column.title for column in COLUMNS]), line("---", ["---"] * len(COLUMNS))]
    for contender in contenders:
        lines.append(line(contender.title, [cell(results, contender.name, column) for column in COLUMNS]))
    return "\n".join([*lines, *_lateness(results, contenders), *disturbances(results), *failures(results)])


def _lateness(results: Results, contenders: list[Contender]) -> list[str]:
    """Latencies that are not much longer than this say nothing."""
    late = [value for contender in contenders for value in results.values(contender.name, "late_p99_ms")]
    return ["", f"The clients themselves began at most {max(late):.1f} ms late (p99)."] if late else []
