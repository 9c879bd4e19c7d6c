"""What the commands have in common: their options, and how they end."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .failure import Failure

ROOT = Path(__file__).resolve().parent.parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
"""Where cargo puts our programs."""


def end_with(body: Callable[[], int], name: str) -> int:
    """Runs the command's body, and returns the status that the command ends with."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return body()
    except Failure as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted, nothing is left running", file=sys.stderr)
        return 130


def parser(name: str, what: str, names: list[str], by_default: list[str]) -> argparse.ArgumentParser:
    """The options of every command; `names` are the contenders that may be chosen."""
    options = argparse.ArgumentParser(prog=name, description=what)
    options.add_argument("--rounds", type=bounded(1, 100), default=5, help="interleaved rounds (5)")
    options.add_argument("--seconds", type=bounded(1, 300), default=5, help="length of each load (5)")
    options.add_argument("--patience", type=bounded(0, 3600), default=20, help="seconds to wait until idle (20)")
    options.add_argument("--node", type=executable, default="node", help="the node to run (from PATH)")
    options.add_argument("--recluster", type=Path, default=BUILT / "recluster", help="our binary (from target/release)")
    options.add_argument("--only", type=chosen_from(names), default=by_default, help="some of " + ",".join(names))
    return options


def bounded(low: int, high: int) -> Callable[[str], int]:
    """An option's type: a whole number within bounds."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low} to {high}")
        return int(text)

    return number


def several(one: Callable[[str], int]) -> Callable[[str], list[int]]:
    """An option's type: some of what `one` takes, with commas between, each once."""

    def numbers(text: str) -> list[int]:
        return list(dict.fromkeys(map(one, text.split(","))))

    return numbers


def chosen_from(names: list[str]) -> Callable[[str], list[str]]:
    """An option's type: some of these names, with commas between."""

    def choice(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"no contender {', '.join(unknown)}: choose from {','.join(names)}")
        return text.split(",")

    return choice


def executable(text: str) -> Path:
    """An option's type: a program, by its path or by its name in PATH."""
    found = shutil.which(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is not an executable")
    return Path(found).resolve()


def _interrupt(*_: object) -> None:
    """The first signal ends the benchmark by an exception; further ones must not disturb the clean-up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
