"""The load of bench/mixed: fast requests beside blocking ones, and connections that are held."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure

RATE = 300
"""Fast requests a second, each on a new connection. Two cores bear it easily: capacity is not what is measured."""
BLOCK_RATE = 10
"""Requests a second beside them that have their worker stand still."""
HELD = 1000
"""Connections that are held."""
AT_ONCE = 16
"""How many of these are being opened at any moment."""
PATIENCE_SECONDS = 30
"""How much longer than asked the program may take before it is given up."""


@dataclass(frozen=True)
class Beside:
    """What the fast requests saw beside the blocking ones. Every request was answered."""

    p90_ms: float
    p99_ms: float
    late_p99_ms: float
    """How late the clients themselves began, which is a part of the latencies."""


class Mixed:
    """The program `mixed-load`, asking one server."""

    def __init__(self, program: Path, port: int) -> None:
        self._command = [str(program), "--port", str(port)]

    def beside(self, seconds: int, seed: int) -> Beside:
        """Asks at the fixed rates. The same seed means the same moments. Any error is a failure."""
        options = ["--rate", RATE, "--block-rate", BLOCK_RATE, "--seconds", seconds, "--seed", seed]
        report = self._run(["beside", *map(str, options)], seconds)
        return Beside(*(report[f"{name}_us"] / 1e3 for name in ("p90", "p99", "late_p99")))

    def hold(self) -> dict[int, int]:
        """Opens connections and keeps them; how many each worker has, by its pid. Any error is a failure."""
        report = self._run(["hold", "--connections", str(HELD), "--at-once", str(AT_ONCE)], 0)
        return {int(pid): count for pid, count in report["workers"].items()}

    def _run(self, words: list[str], seconds: int) -> dict:
        command = [*self._command, *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=seconds + PATIENCE_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise Failure(f"mixed-load: {error}") from error
        if done.returncode != 0:
            raise Failure(done.stderr.strip())
        report = json.loads(done.stdout)
        if report["errors"]:
            raise Failure(f"mixed-load {words[0]} saw errors: {report['errors']}")
        return report


def require(program: Path) -> None:
    """Makes sure that the program is there."""
    if not os.access(program, os.X_OK):
        raise Failure(f"{program} is not there: cargo build --release -p recluster-mixed")
