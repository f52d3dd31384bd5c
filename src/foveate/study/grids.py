"""The tables of a report as plain text: the page, the Markdown and the terminal write them each in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveate.study import wording as words

Table = Mapping[str, Any]
Write = Callable[[float], str]
Ends = Callable[[Sequence[float] | None], str]
MEASURES = {"ece": "ECE", "adaptive_ece": "adaptive ECE", "brier": "Brier", "nll": "NLL"}
NOTHING = "—"
BLIND = ("centre", "uniform")


@dataclass(frozen=True)
class Cell:
    """A number as text, and what belongs below it."""

    main: str
    small: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: a line an arm, or whatever else its first column names.

    Attributes:
        caption: What its numbers are.
        columns: The heads of all columns but the first.
        rows: The first cell, an arm's name where it is one, and the others.
        first: The head of the first column.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    first: str = "Arm"
    notes: tuple[str, ...] = field(default=())


def verdicts(rows: Sequence[Table], metric: str, test: int) -> Grid:
    """What came out: verdict, difference, score, and what stands behind them."""
    named = words.metric_name(metric)
    seeds = {len(row["seeds"]) for row in rows}
    over = words.counted(seeds.pop(), "seed") if len(seeds) == 1 else "the seeds of each arm"
    judged = next((row["verdict"] for row in rows if row["verdict"]), None)
    holm = "" if judged is None else f" p after Holm among {words.counted(judged['arms'], 'mechanism')}."
    return Grid(
        f"{named[0].upper()}{named[1:]} on {test:,} test samples: mean over {over} with its 95{words.SPACE}% interval. "
        f"Differences are to the baseline with the same seed, in percentage points.{holm} Effect size: mean over "
        "standard deviation of the differences, corrected for few seeds. Smallest detectable: what as many seeds as "
        "stand below it see in four of five such studies.",
        ("Verdict", "Difference", named[0].upper() + named[1:], "Effect size", "Wins", "p", "Smallest detectable"),
        tuple((row["arm"], _judged(row)) for row in rows),
    )


def _judged(row: Table) -> tuple[Cell, ...]:
    score = Cell(words.percent(row["score"]), words.percent_interval(row["score_interval"]))
    if row["difference"] is None:
        return (Cell("is the baseline"), Cell(NOTHING), score, *(Cell(NOTHING) for _ in range(4)))
    difference = Cell(words.points(row["difference"]), words.points_interval(row["difference_interval"]))
    if row["verdict"] is None:
        word = {"capacity": "control", "placebo": "control"}.get(row["role"], "not judged")
        return (Cell(word), difference, score, *(Cell(NOTHING) for _ in range(4)))
    return (Cell(words.verdict(row["verdict"]["word"])), difference, score, *_behind(row["verdict"]))


def _behind(verdict: Table) -> tuple[Cell, ...]:
    ties = f"{verdict['ties']} level" if verdict["ties"] else ""
    detectable = Cell("not known")
    if verdict["detectable"] is not None:
        detectable = Cell(f"{100 * verdict['detectable']:.1f}", f"with {verdict['detectable_with']} seeds")
    return (
        Cell("not known" if verdict["effect"] is None else words.signed(verdict["effect"])),
        Cell(f"{verdict['wins']} of {verdict['seeds']}".replace(" ", words.SPACE), ties),
        Cell(words.probability(verdict["p_adjusted"]), f"alone {words.probability(verdict['p'])}"),
        detectable,
    )


def spent(rows: Sequence[Table]) -> Grid:
    """What each arm costs, how far it is ahead on what it learned from, and how fast it learned."""
    first = rows[0]
    return Grid(
        "What each arm costs beside the baseline; how far training samples are ahead of test samples; and the learning "
        "rate it was trained with.",
        ("Parameters", "MACs", "Latency", "Train/test gap", "Learning rate"),
        tuple((row["arm"], _spent(row, first)) for row in rows),
    )


def _spent(row: Table, first: Table) -> tuple[Cell, ...]:
    parameters = macs = latency = Cell("not measured")
    own = row is not first
    if row["parameters"] is not None:
        added = own and first["parameters"] is not None
        parameters = Cell(
            f"{row['parameters']:,}", words.added(row["parameters"] - first["parameters"]) if added else ""
        )
    if row["macs"] is not None:
        macs = Cell(
            words.short_count(row["macs"]), words.more(row["macs"] / first["macs"]) if own and first["macs"] else ""
        )
    if row["latency_ratio"] is not None:
        took = "" if row["latency_ms"] is None else f"{row['latency_ms']:.3g}{words.SPACE}ms"
        if own and row["latency_interval"] is not None:
            took = f"{words.times_interval(row['latency_interval'])}, {took}"
        latency = Cell(words.times(row["latency_ratio"]), took)
    gap = Cell(NOTHING if row["gap"] is None else words.points(row["gap"]))
    return (parameters, macs, latency, gap, Cell(f"{row['rate']:.3g}"))


def contrasts(found: Sequence[Table]) -> Grid | None:
    """Mechanisms beside their controls."""
    if not found:
        return None
    among = words.counted(found[0]["verdict"]["arms"], "such difference")
    return Grid(
        f"Mechanism minus control, paired by seed, in percentage points. p after Holm among {among}.",
        ("Beside", "Verdict", "Difference", "Effect size", "Wins", "p", "Smallest detectable"),
        tuple(
            (
                one["arm"],
                (
                    Cell(one["control"]),
                    Cell(words.verdict(one["verdict"]["word"])),
                    Cell(words.points(one["verdict"]["mean"]), words.points_interval(one["verdict"]["interval"])),
                    *_behind(one["verdict"]),
                ),
            )
            for one in found
        ),
        first="Mechanism",
    )


def tuned(found: Table, rows: Sequence[Table], metric: str) -> Grid | None:
    """Validation scores at every learning rate that was tried."""
    if not found:
        return None
    rates = list(next(iter(found.values())))
    chosen = {row["arm"]: f"{row['rate']:.6g}" for row in rows}

    def cell(arm: str, rate: str) -> Cell:
        value = found[arm].get(rate)
        if value is None:
            return Cell("not finished")
        return Cell(words.percent(value), "✓ chosen" if chosen.get(arm) == rate else "")

    return Grid(
        f"Validation {words.metric_name(metric)} at every learning rate, with seeds that no other run uses.",
        tuple(rates),
        tuple((arm, tuple(cell(arm, rate) for rate in rates)) for arm in found),
    )


def beside(
    tables: Mapping[str, Table],
    caption: str,
    *,
    write: Write = words.percent,
    change: Write = words.points,
    ends: Ends = words.points_interval,
    turned: str = "",
    heads: Mapping[str, str] | None = None,
) -> Grid:
    """Means of arms with their difference to the baseline, a column a table.

    Args:
        tables: By name, a table of arms as :func:`~foveate.study.generalising.beside_baseline` makes it.
        caption: What its numbers are.
        write: How a mean is written.
        change: How a difference is.
        ends: How an interval of differences is.
        turned: The head of the first column, to have a column an arm and a line a table.
        heads: How tables are called.
    """
    heads = heads or {}
    arms = list(dict.fromkeys(arm for table in tables.values() for arm in table))

    def cell(table: Table, arm: str) -> Cell:
        if arm not in table:
            return Cell(NOTHING)
        own = table[arm]
        told = own.get("difference")
        small = "" if told is None else f"{change(told['mean'])} ({ends(told['interval'])})"
        return Cell(write(own["mean"]["mean"]), small.replace("no interval from one seed", "one seed"))

    named = {name: heads.get(name, name.replace("_", " ")) for name in tables}
    if turned:
        rows = tuple((named[name], tuple(cell(table, arm) for arm in arms)) for name, table in tables.items())
        return Grid(caption, tuple(arms), rows, first=turned)
    rows = tuple((arm, tuple(cell(table, arm) for table in tables.values())) for arm in arms)
    return Grid(caption, tuple(named.values()), rows)


def calibration(found: Table) -> list[Grid]:
    """Errors of calibration as trained, and after temperature scaling."""
    said = (
        ("", "As trained: lower is better."),
        (" scaled", "After scaling the logits by one temperature, chosen on validation samples."),
    )
    return [
        beside(
            {title: found[f"{name}{which}"] for name, title in MEASURES.items() if f"{name}{which}" in found},
            f"{caption} Below, the difference to the baseline with its 95{words.SPACE}% interval.",
            write=lambda value: f"{value:.3f}",
            change=lambda value: words.signed(value, 3),
            ends=lambda interval: words.signed_interval(interval, 3),
        )
        for which, caption in said
        if found
    ]


def focus(found: Table) -> list[Grid]:
    """How far the answer hangs on what maps mark; maps that look at no network in a table of their own."""
    if not found:
        return []
    measures = list(dict.fromkeys(one for maps in found.values() for own in maps.values() for one in own))

    def cell(own: Table, measure: str) -> Cell:
        if measure not in own:
            return Cell(NOTHING)
        told, small = own[measure].get("difference"), ""
        if told is not None:
            ends = words.signed_interval(told["interval"], 3).replace("no interval from one seed", "one seed")
            small = f"{words.signed(told['mean'], 3)} ({ends})"
        return Cell(f"{own[measure]['mean']['mean']:.3f}", small)

    def grid(caption: str, *, blind: bool) -> Grid:
        lines = [
            (arm, (Cell(which), *(cell(own, measure) for measure in measures)))
            for arm, maps in found.items()
            for which, own in maps.items()
            if (which in BLIND) == blind
        ]
        return Grid(caption, ("Map", *(measure.replace("_", ", ") for measure in measures)), tuple(lines))

    below = f"Below, the difference to the baseline’s own Grad-CAM with its 95{words.SPACE}% interval."
    return [
        grid(
            "Areas below curves of the class’s probability while test images gain the positions that a map marks most "
            "(insertion: more is better) or lose them first (deletion: less is better), with the image’s blur or mean "
            f"in place of what is not shown. {below}",
            blind=False,
        ),
        grid(
            "The same for the image’s centre and for no order at all: a map that does not beat them marks nothing. "
            f"{below}",
            blind=True,
        ),
    ]
