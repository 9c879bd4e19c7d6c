"""The table: medians, their spread, and ratios against one of the contenders."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from . import machine
from .contenders import Contender
from .measure import Figures


@dataclass(frozen=True)
class Row:
    """A figure as the table shows it. An arrow in the title says which way is better."""

    key: str
    title: str
    decimals: int
    compared: bool = True


ROWS = [
    Row("connections", "new connections/s ↑", 0),
    Row("connections_p99_ms", "p99 of these, ms ↓", 1),
    Row("requests", "keep-alive requests/s ↑", 0),
    Row("requests_p99_ms", "p99 of these, ms ↓", 1),
    Row("primary_mib", "resident memory of the master, MiB ↓", 1),
    Row("primary_us", "CPU of the master per connection, µs ↓", 1),
    Row("reload_ms", "SIGUSR2 to the last new worker ready, ms ↓", 0),
    # A verdict that comes later is one that has looked longer: no matter of better or worse.
    Row("verdict_ms", "reload to its verdict, ms", 0, compared=False),
]


@dataclass
class Results:
    """What all rounds have brought so far."""

    against: str
    """The contender that the ratios are against."""
    bare: list[Figures] = field(default_factory=list)
    rounds: dict[str, list[Figures | None]] = field(default_factory=dict)
    """By the contender's name: its figures in each round, nothing where it failed."""
    failures: list[str] = field(default_factory=list)

    def add(self, name: str, figures: Figures | None) -> None:
        """One contender's outcome of one round; every contender gets one in every round."""
        self.rounds.setdefault(name, []).append(figures)

    def values(self, name: str, key: str) -> list[float]:
        """A figure of a contender over the rounds in which it did not fail."""
        return [figures[key] for figures in self.rounds.get(name, []) if figures and key in figures]

    def ratio(self, name: str, key: str) -> float | None:
        """The median of the ratios within each round, so that what slows a whole round down cancels out."""
        pairs = zip(self.rounds.get(name, []), self.rounds.get(self.against, []))
        ratios = [own[key] / ref[key] for own, ref in pairs if own and ref and key in own and ref.get(key)]
        return median(ratios) if ratios else None


def table(results: Results, contenders: list[Contender]) -> str:
    """The whole outcome as markdown: the table, the bare start-up, the failures."""
    lines = [
        line("", [contender.title for contender in contenders]),
        line("---", ["---"] * len(contenders)),
    ]
    for row in ROWS:
        lines.append(line(row.title, [cell(results, contender.name, row) for contender in contenders]))
        if row.key == "reload_ms":
            cells = [_against_bare(results, contender.name) for contender in contenders]
            lines.append(line("the same, × the bare start-up (× all at once) ↓", cells))
    return "\n".join([*lines, "", _bare(results), *disturbances(results), *failures(results)])


def line(title: str, cells: list[str]) -> str:
    """A line of a table."""
    return f"| {title} | " + " | ".join(cells) + " |"


def cell(results: Results, name: str, row: Row) -> str:
    """A figure of a contender, with its ratio where it is compared."""
    values = results.values(name, row.key)
    if not values:
        return "—" if any(results.rounds[name]) else "failed"
    ratio = results.ratio(name, row.key) if row.compared else None
    figures = _spread(values, row.decimals)
    return figures if ratio is None else f"**{ratio:.2f} ×** {figures}"


def _against_bare(results: Results, name: str) -> str:
    values = results.values(name, "reload_ms")
    if not values or not results.bare:
        return "—" if any(results.rounds[name]) else "failed"
    one, all_at_once = (median(figures[key] for figures in results.bare) for key in ("bare_ms", "bare_all_ms"))
    return f"{median(values) / one:.2f} ({median(values) / all_at_once:.2f})"


def _bare(results: Results) -> str:
    if not results.bare:
        return "The bare start-up was not measured."
    one = _spread([figures["bare_ms"] for figures in results.bare], 0)
    all_at_once = _spread([figures["bare_all_ms"] for figures in results.bare], 0)
    return f"Bare start-up of `node server.js`: {one} ms; of as many at once as there are workers: {all_at_once} ms."


def _spread(values: list[float], decimals: int) -> str:
    low, middle, high = (f"{value:,.{decimals}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}–{high})"


def disturbances(results: Results) -> list[str]:
    """Lines about the measurements during which others used the machine."""
    shares = [figures["others_share"] for outcomes in results.rounds.values() for figures in outcomes if figures]
    disturbed = [share for share in shares if share > machine.QUIET_SHARE]
    if not disturbed:
        return []
    return [
        "",
        f"Of {len(shares)} measurements, {len(disturbed)} were disturbed: something else used up to "
        f"{max(disturbed):.0%} of the machine meanwhile.",
    ]


def failures(results: Results) -> list[str]:
    """Lines about the contenders that failed."""
    if not results.failures:
        return ["", "No contender failed: every response was a 200, and no client saw an error."]
    listed = [f"- {failure}" for failure in results.failures]
    return ["", "Failures (what figures there are above are of the other rounds):", "", *listed]
