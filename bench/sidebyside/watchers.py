"""Those who look at a cluster of ours meanwhile: a scraper, somebody with the page, `top`, and many who follow events."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .failure import Failure

FOLLOWERS = 50
SCRAPE_SECONDS = 0.1
SCRAPERS = 4
"""They take turns: an answer may take longer than the time between two scrapes."""
PAGE_SECONDS = 1.0
ANSWER_SECONDS = 30.0


def admin_options(control: Path) -> tuple[str, ...]:
    """What has the master answer HTTP beside its control socket."""
    return ("--admin", f"unix:{_admin(control)}")


@contextmanager
def looking(recluster: Path, control: Path) -> Iterator[None]:
    """They look until the end; it is a failure if one of them could not."""
    client = [str(recluster), "events", "--follow", "--json", "--control", str(control)]
    top = ["script", "-qefc", f"exec '{recluster}' top --control '{control}'", "/dev/null"]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "TERM": "xterm-256color"}
    programs = [subprocess.Popen(command, env=environment, **streams) for command in [client] * FOLLOWERS + [top]]
    ended, failures = threading.Event(), []
    asks = [_page, *(partial(_scrape, turn) for turn in range(SCRAPERS))]
    asking = [threading.Thread(target=ask, args=(_admin(control), ended, failures)) for ask in asks]
    for thread in asking:
        thread.start()
    try:
        yield
        gone = [program.args for program in programs if program.poll() is not None]
        if gone or failures:
            raise Failure(f"those who look have ended: {[*gone, *failures]}")
    finally:
        ended.set()
        for program in programs:
            program.terminate()
            program.wait()
        for thread in asking:
            thread.join()


def _admin(control: Path) -> Path:
    # The directory of the control socket is the master's own.
    return control.parent.with_name("admin")


def _scrape(turn: int, admin: Path, ended: threading.Event, failures: list[str]) -> None:
    ended.wait(turn * SCRAPE_SECONDS)
    _again(SCRAPERS * SCRAPE_SECONDS, ended, failures, lambda: _get(admin, "/metrics"))


def _page(admin: Path, ended: threading.Event, failures: list[str]) -> None:
    history = "/history"

    def look() -> None:
        nonlocal history
        _get(admin, "/status")
        answer = _get(admin, history)
        history = f"/history?since={json.loads(answer)['next']}" if answer else history

    _again(PAGE_SECONDS, ended, failures, look)


def _again(seconds: float, ended: threading.Event, failures: list[str], look) -> None:
    due = time.monotonic()
    while not ended.wait(max(0.0, due - time.monotonic())):
        due = max(due + seconds, time.monotonic())
        try:
            look()
        except (OSError, ValueError) as error:
            if not ended.is_set():
                failures.append(str(error))
            return


def _get(admin: Path, path: str) -> bytes | None:
    """The body of the answer; nothing where the master is too busy for one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(admin))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ")[1:2]
    if status not in ([b"200"], [b"503"]):
        raise ValueError(f"{path}: {head!r}")
    return body if status == [b"200"] else None
