"""A reload of a real application, in clusters that keep compiled code and in those that do not, while clients ask."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import contenders, machine, report
from .failure import Failure
from .measure import Figures
from .program import DEADLINE_SECONDS, Program
from .report import Results, Row

APPLICATION = contenders.BENCH / "boot-app"
PACKAGES = contenders.CACHE / "boot"
"""What is installed of npm, once."""
PM2 = "pm2@7.0.4"
INSTALL_SECONDS = 600
CHANGED = 10
"""In a new release every tenth of the loaded files is another one."""
LEAST_NODE = (22, 10)
"""Older ones have no compile cache, or cannot be told to write it."""
PORTABLE_NODE = (24, 12)

ROWS = [
    Row("reload_ms", "SIGUSR2 to the last new worker ready, ms ↓", 0),
    Row("p99_ms", "p99 of requests meanwhile, ms ↓", 1),
    Row("worst_ms", "longest of these, ms ↓", 1),
    Row("quiet_p99_ms", "p99 before the reload, ms ↓", 1),
    Row("lost", "requests lost", 0, compared=False),
]


@dataclass(frozen=True)
class Settings:
    """What is the same for every contender."""

    node: Path
    recluster: Path
    workers: int
    rounds: int
    seconds: int
    """For how long requests are made before the reload."""
    rate: int
    """Requests a second."""
    patience: int
    place: Path
    """Where the releases are."""


@dataclass(frozen=True)
class Contender:
    """One way to run the application."""

    name: str
    title: str
    cache: str | None = None
    """Ours: what of the compile cache the reload meets."""

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("ours")


CONTENDERS = [
    Contender("reference", "reference"),
    Contender("pm2", "pm2"),
    Contender("ours", "ours, without a cache"),
    Contender("ours-cold", "ours, cold cache", "cold"),
    Contender("ours-warm", "ours, warm cache", "warm"),
    Contender("ours-release", "ours, new release", "release"),
    Contender("ours-portable", "ours, new release that links to the cache", "portable"),
]


def choose(names: list[str], node: Path) -> list[Contender]:
    """The contenders of these names that this node can run."""
    answer = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in answer.strip().lstrip("v").split(".")[:2])
    chosen = [contender for contender in CONTENDERS if contender.name in names]
    if version < LEAST_NODE and any(contender.cache for contender in chosen):
        hint = "--node \"$(scripts/node-versions 26 | awk '{ print $2 }')\""
        raise Failure(f"{node} is Node {answer.strip()}, which keeps no compiled code: {hint}")
    return [contender for contender in chosen if contender.cache != "portable" or version >= PORTABLE_NODE]


@contextmanager
def releases(node: Path) -> Iterator[tuple[Path, int]]:
    """Two releases of the application beside each other, and how many modules it loads."""
    install()
    with tempfile.TemporaryDirectory(prefix="run-", dir=PACKAGES) as name:
        place = Path(name)
        for release in ("1", "2"):
            directory = place / "releases" / release
            directory.mkdir(parents=True)
            # Links, not copies: what matters is the path.
            subprocess.run(["cp", "-al", str(PACKAGES / "node_modules"), str(directory)], check=True)
            shutil.copy(APPLICATION / "server.js", directory)
            (directory / ".cache").symlink_to(place / "cache")
        loaded = modules(node, place / "releases" / "2")
        for file in loaded[::CHANGED]:
            text = file.read_text()
            file.unlink()
            file.write_text(f"{text}\n// Another release.\n")
        yield place, len(loaded)


def modules(node: Path, release: Path) -> list[Path]:
    """The files that the application loads."""
    answer = release / "modules.json"
    environment = {**os.environ, "PORT": "0", "BENCH_MODULES": str(answer)}
    subprocess.run([str(node), str(release / "server.js")], env=environment, check=True, timeout=DEADLINE_SECONDS)
    return [Path(name) for name in json.loads(answer.read_text()) if name.endswith("js")]


def install() -> None:
    """Installs the packages unless they are there."""
    wanted = (APPLICATION / "package.json").read_text() + PM2
    mark = PACKAGES / "installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    for directory, packages in ((PACKAGES, []), (PACKAGES / "pm2", [PM2])):
        directory.mkdir(parents=True, exist_ok=True)
        described = (APPLICATION / "package.json").read_text() if not packages else '{ "private": true }\n'
        (directory / "package.json").write_text(described)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *packages]
        try:
            subprocess.run(npm, cwd=directory, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.CalledProcessError as error:
            raise Failure(f"npm install failed: {error.stderr.strip()}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failure(f"npm install failed: {error}") from error
    mark.write_text(wanted)


def measure(contender: Contender, settings: Settings) -> Figures:
    """All figures of one contender: requests before the reload, and meanwhile."""
    switch(settings.place, "1")
    clear(settings.place)
    with tempfile.TemporaryDirectory(prefix="recluster-bench-") as name:
        directory = Path(name)
        environment = surroundings(contender, settings, directory)
        with Program(command(contender, settings, directory), environment, directory) as cluster:
            old = cluster.wait_until_listening(settings.workers)
            watch = machine.Watch([cluster.pid, *(event["pid"] for event in old)])
            with Client(settings, old[0]["port"]) as client:
                began = time.monotonic_ns()
                time.sleep(settings.seconds)
                # The client's own time is in this as well, a few hundredths of a core.
                others = watch.others_share()
                begun, ready = reload(contender, settings, cluster, directory)
                answers = client.finish()
            if contender.cache and not any(path.is_file() for path in (settings.place / "cache").rglob("*")):
                raise Failure("nothing was kept (recluster says why in its log: who may write on the way to .cache?)")
    quiet = [answer for answer in answers if began <= answer.planned < begun]
    meanwhile = [answer for answer in answers if begun <= answer.planned < ready]
    if not quiet or not meanwhile:
        raise Failure("there was no request before the reload, or none meanwhile")
    return {
        "reload_ms": (ready - begun) / 1e6,
        "p99_ms": at(0.99, meanwhile),
        "worst_ms": at(1.0, meanwhile),
        "quiet_p99_ms": at(0.99, quiet),
        "late_ms": percentile(0.99, [answer.late_ms for answer in meanwhile]),
        "lost": sum(answer.ms is None for answer in answers),
        "others_share": others,
    }


def command(contender: Contender, settings: Settings, directory: Path) -> list[str]:
    """The command line of the primary process."""
    server = settings.place / "current" / "server.js"
    if contender.name == "reference":
        return [str(settings.node), str(contenders.BENCH / "reference.js")]
    if contender.name == "pm2":
        runtime = PACKAGES / "pm2" / "node_modules" / "pm2" / "bin" / "pm2-runtime"
        workers = ["-i", str(settings.workers), "--name", "app"]
        return [str(settings.node), str(runtime), "start", str(server), *workers]
    cache = settings.place / ("current/.cache" if contender.cache == "portable" else "cache")
    return [
        str(settings.recluster), str(server),
        "--workers", str(settings.workers),
        "--node", str(settings.node),
        "--control", str(directory / "control" / "socket"),
        *([f"--compile-cache={cache}"] if contender.cache else []),
    ]  # fmt: skip


def surroundings(contender: Contender, settings: Settings, directory: Path) -> dict[str, str]:
    """Its environment."""
    server = settings.place / "current" / "server.js"
    environment = {"BENCH_WORKERS": str(settings.workers), "BENCH_SERVER": str(server)}
    if contender.name == "reference":
        environment["BENCH_REFERENCE"] = str(contenders.fetch_reference())
    if contender.name == "pm2":
        environment |= {"PM2_HOME": str(directory / "pm2"), "PM2_DISCRETE_MODE": "true"}
    return environment


def reload(contender: Contender, settings: Settings, cluster: Program, directory: Path) -> tuple[int, int]:
    """Reloads; returns when that was asked for and when the last new worker listened, and waits until the old are gone."""
    old = frozenset(event["pid"] for event in cluster.events("listening"))
    if contender.cache == "cold":
        clear(settings.place)
    if contender.cache in ("release", "portable"):
        switch(settings.place, "2")
    begun = time.monotonic_ns()
    if contender.name == "pm2":
        pm2(settings, cluster, directory)
    else:
        cluster.process.send_signal(signal.SIGUSR2)
    fresh = cluster.wait_until_listening(settings.workers, known=old)
    cluster.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), "the old workers are gone")
    return begun, max(event["time"] for event in fresh)


def pm2(settings: Settings, cluster: Program, directory: Path) -> None:
    """Asks pm2 for a reload. Its command ends when that is done."""
    script = PACKAGES / "pm2" / "node_modules" / "pm2" / "bin" / "pm2"
    # Whatever it starts is ended with the cluster.
    mark = {"BENCH_EVENTS": str(cluster.events_file)}
    environment = {**os.environ, **surroundings(Contender("pm2", "pm2"), settings, directory), **mark}
    asked = [str(settings.node), str(script), "reload", "app"]
    answer = subprocess.run(
        asked, env=environment, capture_output=True, text=True, check=False, timeout=2 * DEADLINE_SECONDS
    )
    if answer.returncode != 0:
        raise Failure(f"pm2 reload ended with status {answer.returncode}: {answer.stderr.strip()[-300:]}")


def switch(place: Path, release: str) -> None:
    """Lets `current` lead to another release, in one step."""
    new = place / "next"
    new.symlink_to(place / "releases" / release)
    new.replace(place / "current")


def clear(place: Path) -> None:
    """Leaves an empty cache. A worker may be writing the old one."""
    cache = place / "cache"
    if cache.exists():
        old = Path(tempfile.mkdtemp(prefix="old-", dir=place))
        cache.rename(old / "cache")
        shutil.rmtree(old, ignore_errors=True)
    cache.mkdir(mode=0o700)


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    planned: int
    late_ms: float
    """How late it was begun."""
    ms: float | None
    """From when it was planned until its answer had come."""


class Client:
    """Asks without end: a context manager that leaves no process behind."""

    def __init__(self, settings: Settings, port: int) -> None:
        asked = [str(settings.node), str(APPLICATION / "client.js"), str(port), str(settings.rate)]
        self.process = subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self) -> list[Answer]:
        """Ends it; returns what became of all requests."""
        try:
            output, _ = self.process.communicate(timeout=DEADLINE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Failure("the client did not end") from error
        if self.process.returncode != 0:
            raise Failure(f"the client ended with status {self.process.returncode}")
        return [Answer(planned, (begun - planned) / 1e6, ms) for planned, begun, ms in json.loads(output)]


def at(share: float, answers: list[Answer]) -> float:
    """A percentile of how long answers took. One that did not come took for ever; the row of lost ones tells of it."""
    return percentile(share, [answer.ms for answer in answers if answer.ms is not None] or [float("nan")])


def percentile(share: float, values: list[float]) -> float:
    """The smallest value below or at which this share of them is."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(results: Results, chosen: list[Contender]) -> str:
    """The outcome as markdown."""
    lines = [
        report.line("", [contender.title for contender in chosen]),
        report.line("---", ["---"] * len(chosen)),
        *(report.line(row.title, [report.cell(results, one.name, row) for one in chosen]) for row in ROWS),
    ]
    late = [late for contender in chosen for late in results.values(contender.name, "late_ms")]
    told = f"The worst p99 of how late the client began requests meanwhile: {max(late):.1f} ms." if late else ""
    return "\n".join([*lines, "", told, *report.disturbances(results), *failures(results)])


def failures(results: Results) -> list[str]:
    """Lines about the contenders that failed."""
    if not results.failures:
        return ["", "No contender failed."]
    listed = [f"- {failure}" for failure in results.failures]
    return ["", "Failures (what figures there are above are of the other rounds):", "", *listed]
