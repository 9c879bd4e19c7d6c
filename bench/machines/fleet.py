"""A balancer and the machines behind it, each of these in a network namespace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from machines.balancers import Balancer

# Names of the machines in the config of the balancer, in the order of their addresses.
NAMES = ["one", "two", "three"]
ADDRESS = "192.0.2.{}"  # for documentation: no network has them
FIRST_HOST = 11
PORT = 8000
PATIENCE = 90
"""Seconds that any single wait may take."""
INSIDE = "RECLUSTER_FLEET_INSIDE"


class Trouble(Exception):
    """It cannot be measured."""


@dataclass(frozen=True)
class Settings:
    recluster: Path
    load: Path
    node: str
    balancer: type[Balancer]
    server: Path
    clients: str
    workers: int
    patient: bool
    """On a machine that may be slow: the balancer waits longer for connections and checks."""


def by_themselves(balancer: str) -> None:
    """Goes on in mounts, a network and processes of our own, all of which end with this process."""
    if os.environ.get(INSIDE):
        run("ip", "link", "set", "lo", "up")
        # For `ip netns`; what other masters of this machine have there is not ours.
        run("mount", "-t", "tmpfs", "none", "/run")
        return
    missing = [name for name in ["unshare", "ip", balancer] if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        sys.exit(f"bench/fleet: {missing[0]} is not installed" if missing else "bench/fleet: it needs root, for network namespaces")
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.execvpe("unshare", [*unshare, sys.executable, *sys.argv], {**os.environ, INSIDE: "yes"})


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"{' '.join(str(part) for part in command)}: {done.stdout}{done.stderr}".strip())
    return done.stdout


def wait(what: str, condition: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > PATIENCE:
            raise Trouble(f"waited in vain: {what}")
        time.sleep(0.02)


class Machine:
    """A network namespace with an address, and a master in it."""

    def __init__(self, name: str, number: int, settings: Settings, home: Path) -> None:
        self.name, self._settings, self._home = name, settings, home
        self.address = ADDRESS.format(number)
        self.outside = f"to-{name}"
        self._version = 0
        self.master: subprocess.Popen | None = None
        run("ip", "netns", "add", name)
        run("ip", "link", "add", self.outside, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", self.outside, "master", "fleet", "up")
        self.within("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        for link in ["lo", "eth0"]:
            self.within("ip", "link", "set", link, "up")

    def within(self, *command: object) -> str:
        return run("ip", "netns", "exec", self.name, *command)

    def start(self) -> None:
        """A new version, as a new machine would bring it."""
        self._version += 1
        patience = "10m" if self._settings.patient else "20s"
        times = ["--accept-after-stop", "5s", "--stop-timeout", patience, "--timeout", patience, "--bake", "500ms"]
        options = ["--workers", self._settings.workers, "--control", self._control(), "--node", self._settings.node]
        command = ["ip", "netns", "exec", self.name, self._settings.recluster, "run", self._settings.server]
        command += ["--admin", "0.0.0.0:9464", *times, *options, "--config", "none", "--name", f"{self.name}-{self._version}"]
        with (self._home / f"{self.name}.log").open("a") as log:
            self.master = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _control(self) -> Path:
        return self._home / f"{self.name}-{self._version}.sock"

    def end(self, sent: int) -> None:
        """Sends the master a signal, and waits until it and all workers are gone."""
        workers = children(self.master.pid)
        self.master.send_signal(sent)
        self.master.wait(PATIENCE)
        wait(f"the workers of {self.name} go", lambda: not any(lives(pid) for pid in workers))

    def reload(self) -> None:
        old = children(self.master.pid)
        run(self._settings.recluster, "reload", "--control", self._control())
        wait(f"the old workers of {self.name} go", lambda: not any(lives(pid) for pid in old))

    def log(self) -> str:
        return (self._home / f"{self.name}.log").read_text()[-3000:]


class Fleet:
    """Three machines, a bridge between them, and a balancer in front."""

    def __init__(self, settings: Settings, retries: bool) -> None:
        self.settings, self.retries = settings, retries
        self._home = Path(tempfile.mkdtemp(prefix="recluster-fleet-"))
        self.log = self._home / "balancer.log"
        self.balancer = settings.balancer()
        self.machines: list[Machine] = []
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Fleet:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        processes = [self._process, *[machine.master for machine in self.machines]]
        for process in filter(None, processes):
            # Those that it has started end with it.
            workers = children(process.pid) if process is self._process and process.poll() is None else []
            process.kill()
            process.wait()
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
        # A link would go with its namespace, but only some time later.
        for link in [*[machine.outside for machine in self.machines], "fleet"]:
            subprocess.run(["ip", "link", "delete", link], check=False, stderr=subprocess.DEVNULL)
        for machine in self.machines:
            run("ip", "netns", "delete", machine.name)
        shutil.rmtree(self._home, ignore_errors=True)

    def _begin(self) -> None:
        run("ip", "link", "add", "fleet", "type", "bridge")
        run("ip", "address", "add", f"{ADDRESS.format(1)}/24", "dev", "fleet")
        run("ip", "link", "set", "fleet", "up")
        for number, name in enumerate(NAMES, FIRST_HOST):
            self.machines.append(Machine(name, number, self.settings, self._home))
        for machine in self.machines:
            machine.start()
        self._start_balancer()
        self.wait_for_all()

    def _start_balancer(self) -> None:
        command = self.balancer.command(self._home, self.settings.patient, self.retries)
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait(f"{self.balancer.name} listens", self.balancer.listens)

    def wait_for(self, machine: Machine, status: str) -> None:
        try:
            says = lambda: self.balancer.says(machine.name, machine.address)
            wait(f"{self.balancer.name} says {status} of {machine.name}", lambda: says() == status)
        except Trouble as trouble:
            raise Trouble(f"{trouble}\n{machine.log()}") from None

    def wait_for_all(self) -> None:
        for machine in self.machines:
            self.wait_for(machine, "UP")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        if task.name != str(pid)
        for child in (task / "children").read_text().split()
    ]


def lives(pid: int) -> bool:
    """A zombie does not: what a killed master leaves behind has nobody else to wait for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
