"""Goes through the rounds, and sees to it that nothing else disturbs a measurement."""

from __future__ import annotations

import sys
from collections.abc import Callable

from . import machine, measure
from .contenders import Contender, Settings
from .failure import Failure
from .report import Results

ATTEMPTS = 3
"""How often a measurement is made at most, when others use the machine meanwhile."""

Measure = Callable[[Contender, Settings], measure.Figures]
"""What is measured of a contender. One of the figures is `others_share`."""


def measure_all(contenders: list[Contender], settings: Settings) -> Results:
    """All contenders in each round, and the server without a cluster."""
    results = Results(settings.against)
    for number in range(1, settings.rounds + 1):
        progress(f"round {number} of {settings.rounds}: bare start-up")
        machine.wait_until_quiet(settings.patience)
        results.bare.append(measure.bare_start(settings))
        one_round(number, contenders, settings, measure.contender, results)
    return results


def one_round(
    number: int, contenders: list[Contender], settings: Settings, measured: Measure, results: Results
) -> None:
    """Measures every contender once. Each round begins with another one. Failures are noted."""
    first = (number - 1) % len(contenders)
    for contender in contenders[first:] + contenders[:first]:
        progress(f"round {number} of {settings.rounds}, {settings.workers} workers: {contender.title}")
        try:
            results.add(contender.name, undisturbed(contender, settings, measured))
        except Failure as failure:
            progress(f"  failed: {failure}")
            results.add(contender.name, None)
            results.failures.append(f"{contender.title}, round {number}: {failure}")


def undisturbed(contender: Contender, settings: Settings, measured: Measure) -> measure.Figures:
    """Measures when the machine is idle, and again if it did not stay so. The last attempt counts as it is."""
    for attempt in range(1, ATTEMPTS + 1):
        machine.wait_until_quiet(settings.patience)
        figures = measured(contender, settings)
        if figures["others_share"] <= machine.QUIET_SHARE:
            break
        progress(f"  attempt {attempt} of {ATTEMPTS}: others used {figures['others_share']:.0%} of the machine")
    return figures


def progress(text: str) -> None:
    """Tells on stderr, so that stdout is the report alone."""
    print(text, file=sys.stderr, flush=True)
