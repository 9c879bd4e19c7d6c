"""What stands in front of the machines."""

from __future__ import annotations

import re
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Protocol

CONTRIB = Path(__file__).resolve().parent.parent.parent / "contrib"


class Balancer(Protocol):
    name: str
    retries: list[bool]
    """Whether empty answers are asked for again, for each way in which it is measured."""

    def command(self, home: Path, patient: bool, retries: bool) -> list[str]:
        """Writes its config, and says how it is started."""

    def listens(self) -> bool: ...

    def says(self, name: str, address: str) -> str | None:
        """What it thinks of a machine: UP, DOWN, or something on the way."""

    def mishap(self, line: str) -> str | None:
        """What a line of its log says of a request that did not go well, if it is about one."""


class HAProxy:
    name = "haproxy"
    version = ["haproxy", "-v"]
    retries = [False, True]

    def command(self, home: Path, patient: bool, retries: bool) -> list[str]:
        self._socket = home / "haproxy.sock"
        text = (CONTRIB / "haproxy/haproxy.cfg").read_text().replace("/run/haproxy.sock", str(self._socket))
        if patient:
            text = text.replace("timeout connect 1s", "timeout connect 10s").replace("timeout check 1s", "timeout check 10s")
        if not retries:
            text = text.replace(" empty-response", "").replace("    http-request disable-l7-retry unless METH_GET\n", "")
        config = home / "haproxy.cfg"
        config.write_text(text)
        return ["haproxy", "-db", "-f", str(config)]

    def listens(self) -> bool:
        return self._socket.exists()

    def says(self, name: str, address: str) -> str | None:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._socket))
            asking.sendall(b"show stat\n")
            text = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
        names, *lines = [line.split(",") for line in text.splitlines() if line]
        return next((line[names.index("status")] for line in lines if line[1] == name), None)

    def mishap(self, line: str) -> str | None:
        # "clients machines/two 0/0/1/2/3 502 0 - - SH-- 4/4/3/1/0 …": see `option httplog`.
        words = line.split()
        if len(words) < 10 or not words[3].startswith("machines/"):
            return None
        server, status, ended = words[3].split("/")[1], words[5], words[9]
        # C: it was the client who ended it, as at the end of a load. -1: nothing was answered.
        went_wrong = ended[0] not in "-C" or status == "-1" or status.startswith("5")
        return f"{server} {status} {ended}" if went_wrong else None


class Nginx:
    """It makes no checks of its own: what it thinks of a machine nobody can see. Instead the machine is asked."""

    name = "nginx"
    version = ["nginx", "-v"]
    retries = [True]

    def command(self, home: Path, patient: bool, retries: bool) -> list[str]:
        text = (CONTRIB / "nginx/nginx.conf").read_text().replace("/run/nginx.pid", str(home / "nginx.pid"))
        if patient:
            text = text.replace("proxy_connect_timeout 1s", "proxy_connect_timeout 10s")
        config = home / "nginx.conf"
        config.write_text(text)
        return ["nginx", "-p", str(home), "-c", str(config), "-g", "daemon off;"]

    def listens(self) -> bool:
        return answers("127.0.0.1", 8000)

    def says(self, name: str, address: str) -> str | None:
        try:
            with socket.create_connection((address, 9464), timeout=1) as asking:
                asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return "UP" if b" 200 " in asking.recv(4096).split(b"\r\n")[0] else "DOWN"
        except OSError:
            return "DOWN"

    def mishap(self, line: str) -> str | None:
        # "… *7 connect() failed (111: Connection refused) while connecting to upstream, … upstream: "http://192.0.2.11:8080/"…"
        found = re.search(r"\*\d+ (.*?) while .*upstream: \"http://([\d.]+)", line)
        return f"{found[2]} {found[1]}" if found else None


BALANCERS = {balancer.name: balancer for balancer in [HAProxy, Nginx]}


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def mishaps(balancer: Balancer, log: Path, since: int) -> Counter:
    """Of the lines of its log since then, those of requests that did not go well."""
    with log.open(errors="replace") as lines:
        lines.seek(since)
        return Counter(mishap for line in lines if (mishap := balancer.mishap(line)))


def version(balancer: type[Balancer]) -> str:
    done = subprocess.run(balancer.version, capture_output=True, text=True, check=True)
    return " ".join((done.stdout or done.stderr).splitlines()[0].removeprefix("nginx version: ").split()[:3])
