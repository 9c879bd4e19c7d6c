"""What happens to the fleet, and what its clients see of it."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from machines.balancers import mishaps
from machines.fleet import PORT, Fleet, Machine, Trouble, run

WARM_UP_REQUESTS = 200
AFTERWARDS_SECONDS = 1
CUT_SECONDS = 20
THINK = "5ms"


@dataclass(frozen=True)
class Case:
    name: str
    orderly: bool
    happens: Callable[[Fleet], None]


@dataclass(frozen=True)
class Row:
    """What became of the requests of a case."""

    case: Case
    retries: bool
    seconds: float
    answered: int
    losses: list[dict]
    mishaps: Counter
    """What the balancer wrote of requests that did not go well, and how often."""

    def brief(self) -> str:
        seen = Counter(f"{loss['kind']}: {loss['cause']}" for loss in self.losses)
        return f"{self.case.name}: {len(self.losses)} lost of {self.answered + len(self.losses)} {dict(seen)} {dict(self.mishaps)}"


def measure(fleet: Fleet, case: Case) -> Row:
    logged = fleet.log.stat().st_size
    command = [fleet.settings.load, "--port", PORT, "--clients", fleet.settings.clients, "--think", THINK]
    load = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    begun = time.monotonic()
    try:
        goes_on(load, WARM_UP_REQUESTS)
        case.happens(fleet)
        time.sleep(AFTERWARDS_SECONDS)
        told, _ = load.communicate(timeout=60)
    finally:
        load.kill()
        load.wait()
    seconds = time.monotonic() - begun
    saw = json.loads(told)
    return Row(case, fleet.retries, seconds, saw["answered"], saw["losses"], mishaps(fleet.balancer, fleet.log, logged))


def goes_on(load: subprocess.Popen, requests: int) -> None:
    """Waits until there were so many requests."""
    for _ in range(600):
        load.stdin.write("\n")
        load.stdin.flush()
        line = load.stdout.readline()
        if not line:
            raise Trouble("the clients have ended")
        if int(line) >= requests:
            return
        time.sleep(0.1)
    raise Trouble("nobody is answered")


def one_by_one(fleet: Fleet) -> None:
    for machine in fleet.machines:
        leaves_and_comes(fleet, machine)


def one_of_them(fleet: Fleet) -> None:
    leaves_and_comes(fleet, fleet.machines[0])


def leaves_and_comes(fleet: Fleet, machine: Machine) -> None:
    machine.end(signal.SIGTERM)
    fleet.wait_for(machine, "DOWN")
    machine.start()
    fleet.wait_for(machine, "UP")


def cut_off(fleet: Fleet) -> None:
    machine = fleet.machines[1]
    run("ip", "link", "set", machine.outside, "down")
    fleet.wait_for(machine, "DOWN")
    time.sleep(CUT_SECONDS)
    run("ip", "link", "set", machine.outside, "up")
    fleet.wait_for(machine, "UP")


def master_killed(fleet: Fleet) -> None:
    machine = fleet.machines[2]
    machine.end(signal.SIGKILL)
    fleet.wait_for(machine, "DOWN")
    machine.start()
    fleet.wait_for(machine, "UP")


def reload_all(fleet: Fleet) -> None:
    failures = []

    def reload(machine: Machine) -> None:
        try:
            machine.reload()
        except Trouble as trouble:
            failures.append(trouble)

    threads = [threading.Thread(target=reload, args=[machine]) for machine in fleet.machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


ROLLING = Case("machines leave and come, one by one", True, one_by_one)
RELOAD = Case("a reload on all three at once", True, reload_all)
CUT = Case("a machine is cut off", False, cut_off)
KILLED = Case("a master is killed", False, master_killed)
ALL = [ROLLING, RELOAD, CUT, KILLED]
SHORT = [Case("a machine leaves and comes", True, one_of_them), RELOAD]
