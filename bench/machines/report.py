"""The tables."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections import Counter
from datetime import date

from machines import balancers
from machines.cases import Row
from machines.fleet import Settings

COLUMNS = ["refused", "reset or closed", "502", "503", "504", "no end", "wrong"]


def heading(settings: Settings, words: list[str]) -> str:
    version = lambda *command: subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    node = version(settings.node, "--version")
    cores = len(os.sched_getaffinity(0))
    return (
        f"{date.today().isoformat()}, {cores} cores, Linux {platform.release()}, Node {node}, {balancers.version(settings.balancer)}\n\n"
        f"    {shlex.join(['bench/fleet', *words])}\n"
    )


def tables(rows: list[Row]) -> str:
    lines = [
        "| what happens | `retry-on` | times | seconds | requests | answered | " + " | ".join(COLUMNS) + " | lost |",
        "| --- | --- | ---: | ---: | ---: | ---: |" + " ---: |" * (len(COLUMNS) + 1),
    ]
    kinds: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.case.name, row.retries), []).append(row)
    for (name, retries), same in kinds.items():
        losses = [loss for row in same for loss in row.losses]
        seen = Counter(column(loss) for loss in losses)
        answered = sum(row.answered for row in same)
        cells = [name, "also empty answers" if retries else "as is", len(same), f"{sum(row.seconds for row in same):.0f}"]
        cells += [answered + len(losses), answered, *[seen[name] for name in COLUMNS], f"**{len(losses)}**"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines + mishaps(kinds))


def mishaps(kinds: dict[tuple[str, bool], list[Row]]) -> list[str]:
    lines = ["", "What the balancer wrote of requests that did not go well, and how often:", ""]
    for (name, retries), same in kinds.items():
        all_of_them = sum((row.mishaps for row in same), Counter())
        if all_of_them:
            told = ", ".join(f"{what} × {count}" for what, count in all_of_them.most_common())
            lines.append(f"- {name}, {'with' if retries else 'without'} `empty-response`: {told}")
    return lines if lines[3:] else ["", "The balancer wrote of no request that did not go well."]


def column(loss: dict) -> str:
    cause = loss["cause"]
    if cause.startswith("no connection"):
        return "refused"
    if cause.startswith("status 50"):
        return cause.removeprefix("status ")
    if cause.startswith("no end"):
        return "no end"
    return "reset or closed" if cause.startswith("connection") else "wrong"
