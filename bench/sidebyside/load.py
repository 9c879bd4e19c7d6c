"""The load generator: wrk, the same for every contender."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure

CONNECTIONS = 64
"""Connections that wrk keeps busy at any moment, from one thread."""
PATIENCE_SECONDS = 30
"""How much longer than asked wrk may take before it is given up."""
REPORT = Path(__file__).resolve().parent.parent / "report.lua"


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw. Every request was answered."""

    requests: int
    per_second: float
    p99_ms: float


def require_wrk() -> str:
    """The path of wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Failure("wrk is not installed: apt-get install wrk")
    return wrk


def version() -> str:
    """How wrk names its version; its status is not 0 when asked for it."""
    output = subprocess.run([require_wrk(), "-v"], capture_output=True, text=True, check=False)
    return " ".join((output.stdout + output.stderr).split()[:2])


def run(port: int, seconds: int, keep_alive: bool) -> Load:
    """Loads the server, with a new connection for each request unless `keep_alive`. Any error is a failure."""
    command = [
        require_wrk(), "--threads", "1", "--connections", str(CONNECTIONS),
        "--duration", f"{seconds}s", "--script", str(REPORT),
    ]  # fmt: skip
    if not keep_alive:
        command += ["--header", "Connection: close"]
    command.append(f"http://127.0.0.1:{port}/")
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=seconds + PATIENCE_SECONDS
        ).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Failure(f"wrk: {error}") from error
    report = json.loads(output.strip().splitlines()[-1])
    errors = {kind: count for kind, count in report["errors"].items() if count}
    if errors:
        raise Failure(f"wrk saw errors in {report['requests']} requests: {errors}")
    if not report["requests"]:
        raise Failure("wrk saw no answer")
    return Load(
        requests=report["requests"],
        per_second=report["requests"] / (report["duration_us"] / 1e6),
        p99_ms=report["p99_us"] / 1e3,
    )


def answering_pid(port: int) -> int:
    """Asks once, by a new connection; the answer must be a 200 with the pid of the worker."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            if response.status != 200:
                raise Failure(f"answered with status {response.status}")
            return int(response.read())
    except (OSError, ValueError) as error:
        raise Failure(f"no good answer: {error}") from error
