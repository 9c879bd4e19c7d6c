"""Who is measured, and how each one is started. All of them run the same server file."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from . import watchers
from .failure import Failure

BENCH = Path(__file__).resolve().parent.parent
SERVER = BENCH / "server.js"
REFERENCE = "recluster@1.0.0"
"""The reference, as npm names it."""
CACHE = BENCH.parent / ".cache" / "bench"


@dataclass(frozen=True)
class Settings:
    """What is the same for every contender of one benchmark."""

    node: Path
    recluster: Path
    workers: int
    rounds: int
    seconds: int
    """The length of each load."""
    against: str
    """The contender that the ratios are against."""
    patience: int
    """For how many seconds a measurement waits for the machine to be idle."""
    server: Path = SERVER
    """The file that every contender runs."""


@dataclass(frozen=True)
class Contender:
    """One way to run the server as a cluster."""

    name: str
    title: str
    primary: str | None = None
    """The script that node runs as the primary; ours needs none."""
    balance: str | None = None
    """Ours: the value of --balance."""
    options: tuple[str, ...] = ()
    """Ours: further options."""
    environment: dict[str, str] = field(default_factory=dict)
    is_watched: bool = False
    """Ours: whether many look at it meanwhile."""
    reloads: bool = True
    by_default: bool = True
    """Whether it is measured where no contender is named."""

    @property
    def is_ours(self) -> bool:
        return self.balance is not None

    def command(self, settings: Settings, control: Path) -> list[str]:
        """The command line of the primary process. `control` is the socket that ours listens on."""
        if self.primary:
            return [str(settings.node), str(BENCH / self.primary)]
        return [
            str(settings.recluster), str(settings.server),
            "--workers", str(settings.workers),
            "--balance", self.balance,
            "--node", str(settings.node),
            "--control", str(control),
            *self.options,
            *(watchers.admin_options(control) if self.is_watched else ()),
        ]  # fmt: skip


CONTENDERS = [
    Contender("reference", "reference", primary="reference.js"),
    Contender(
        "node-rr",
        "node:cluster",
        primary="node-cluster.js",
        environment={"NODE_CLUSTER_SCHED_POLICY": "rr"},
        reloads=False,
    ),
    Contender(
        "node-none",
        "node:cluster SCHED_NONE",
        primary="node-cluster.js",
        environment={"NODE_CLUSTER_SCHED_POLICY": "none"},
        reloads=False,
    ),
    Contender("ours-npm", "ours, npm package", primary="reference.js", by_default=False),
    Contender("ours-rr", "ours round-robin", balance="round-robin"),
    Contender(
        "ours-rr-http",
        "ours round-robin, --worker-metrics http",
        balance="round-robin",
        options=("--worker-metrics", "http"),
        by_default=False,
    ),
    Contender("ours-shared", "ours shared", balance="shared"),
    Contender("ours-kernel", "ours kernel", balance="kernel", by_default=False),
    Contender("ours-kernel-watched", "ours kernel, watched", balance="kernel", is_watched=True, by_default=False),
    Contender(
        "ours-rr-plain",
        "ours round-robin, --drain-http off",
        balance="round-robin",
        options=("--drain-http", "off"),
        by_default=False,
    ),
    Contender(
        "ours-shared-plain",
        "ours shared, --drain-http off",
        balance="shared",
        options=("--drain-http", "off"),
        by_default=False,
    ),
]


def prepare(contender: Contender, settings: Settings) -> dict[str, str]:
    """Makes sure that the contender is there to be started, and returns its environment."""
    environment = dict(
        contender.environment, BENCH_WORKERS=str(settings.workers), BENCH_SERVER=str(settings.server)
    )
    if contender.is_ours and not os.access(settings.recluster, os.X_OK):
        raise Failure(f"{settings.recluster} is not there: cargo build --release -p recluster-cli")
    if contender.name == "reference":
        environment["BENCH_REFERENCE"] = str(fetch_reference())
    if contender.name == "ours-npm":
        environment["BENCH_REFERENCE"] = str(find_package())
    return environment


def find_package() -> Path:
    """Our npm package, which must have been built."""
    package = BENCH.parent / "npm"
    if not any(package.glob("*.node")):
        raise Failure(f"{package} has no addon: scripts/npm-pack")
    return package


def fetch_reference() -> Path:
    """Installs the reference into .cache unless it is there, and returns its directory."""
    package = CACHE / "node_modules" / "recluster"
    if not (package / "package.json").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text('{ "private": true }\n')
        npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", REFERENCE]
        try:
            subprocess.run(npm, cwd=CACHE, check=True, capture_output=True, text=True, timeout=120)
        except subprocess.CalledProcessError as error:
            raise Failure(f"npm install {REFERENCE} failed: {error.stderr.strip()}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failure(f"npm install {REFERENCE} failed: {error}") from error
    return package
