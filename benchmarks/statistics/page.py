"""`docs/statistics.md`: the text of `page.md` beside this file, with what the simulations found in its gaps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.statistics.scores import EXCHANGEABLE, UNEQUAL

TEXT = Path(__file__).with_name("page.md")
Row = dict[str, Any]


def page(results: dict[str, Any]) -> str:
    """The page; a gap `{{name}}` of the text is filled by the function `name` of this file."""
    text = TEXT.read_text(encoding="utf-8")
    rows = {question: found["rows"] for question, found in results.items()}
    gaps = {
        "kinds": kinds(),
        "level": level([row for row in rows["level"] if row["kind"] in EXCHANGEABLE]),
        "level_words": level_words([row for row in rows["level"] if row["kind"] in EXCHANGEABLE]),
        "asymmetric": level([row for row in rows["level"] if row["kind"] in UNEQUAL]),
        "strength": strength(rows["strength"]),
        "strength_words": strength_words(rows["strength"]),
        "coverage_seeds": coverage([row for row in rows["coverage"] if row["of"] == "seeds"]),
        "coverage_both": coverage([row for row in rows["coverage"] if row["of"] != "seeds"]),
        "sequence_level": sequence_level([row for row in rows["sequence"] if not row["effect"]]),
        "sequence_words": sequence_words([row for row in rows["sequence"] if not row["effect"]]),
        "sequence_effect": sequence_effect([row for row in rows["sequence"] if row["effect"]]),
        "order": order(rows["order"]),
        "conditions": conditions(results),
    }
    for name, filled in gaps.items():
        text = text.replace("{{" + name + "}}", filled)
    return text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def percent(hits: int, of: int) -> str:
    """One digit, because 2,000 studies do not know more."""
    return f"{100 * hits / of:.1f}"


def kinds() -> str:
    """What is simulated."""
    return "\n".join(f"- *{name}*: {said};" for name, said in (EXCHANGEABLE | UNEQUAL).items())[:-1] + "."


def level(rows: list[Row]) -> str:
    """Studies in which any arm was called better or worse, in percent."""
    seeds = sorted({row["seeds"] for row in rows})
    families = dict.fromkeys((row["kind"], row["arms"]) for row in rows)
    return table(
        ["scores", "arms", *(f"{count} seeds" for count in seeds)],
        (
            [kind, str(arms), *(percent(row["either"], row["studies"]) for row in rows if of(row, kind, arms))]
            for kind, arms in families
        ),
    )


def of(row: Row, kind: str, arms: int) -> bool:
    """Whether a row is of these."""
    return (row["kind"], row["arms"]) == (kind, arms)


def highest(rows: list[Row]) -> int:
    """What a count at exactly 5 % would exceed in one of a hundred simulations of all these rows."""
    return int(stats.binom.ppf(1 - 0.01 / len(rows), rows[0]["studies"], 0.05))


def level_words(rows: list[Row]) -> str:
    """The extremes, and what chance allows."""
    studies = rows[0]["studies"]
    most = {word: max(row[word] for row in rows) for word in ("either", "better", "worse")}
    return (
        f"The largest of these {len(rows)} shares is {percent(most['either'], studies)} %; of *better* alone it is "
        f"{percent(most['better'], studies)} %, of *worse* alone {percent(most['worse'], studies)} %. At a level of "
        f"exactly 5 %, one of so many counts would by chance exceed {percent(highest(rows), studies)} % in one of a "
        "hundred simulations like this."
    )


def strength(rows: list[Row]) -> str:
    """Found and said by the formula, in percent."""
    return table(
        ["arms", "seeds", "effect", "called better", "formula", "t-test", "noncentral t"],
        (
            [
                str(row["arms"]),
                str(row["seeds"]),
                f"{row['effect']:.2f}",
                percent(row["better"], row["studies"]),
                f"{100 * row['formula']:.1f}",
                percent(row["t_test"], row["studies"]),
                f"{100 * row['noncentral_t']:.1f}",
            ]
            for row in rows
            if 0.75 < row["formula"] < 0.85
        ),
    )


def strength_words(rows: list[Row]) -> str:
    """How far apart, in standard deviations of what was counted."""
    apart = [(row["better"] / row["studies"] - row["formula"]) / deviation(row) for row in rows]
    wrong = sum(row["worse"] for row in rows)
    allowed = float(stats.norm.isf(0.005 / len(rows)))
    return (
        f"Over all {len(rows)} rows of the file, the share differs from the formula by at most "
        f"{max(map(abs, apart)):.1f} standard deviations of its own counting, where {allowed:.1f} would be exceeded by "
        f"chance in one of a hundred such simulations. An arm that was better was called *worse* in {wrong} of "
        f"{sum(row['studies'] for row in rows):,} studies."
    )


def deviation(row: Row) -> float:
    """Of a share of so many studies, and of the 4,000 samples that the formula counts where seeds are few."""
    variance = row["formula"] * (1 - row["formula"])
    return math.sqrt(variance / row["studies"] + (variance / 4000 if row["seeds"] <= 12 else 0))


def coverage(rows: list[Row]) -> str:
    """Covered in percent, and the length in deviations of the mean."""
    seeds = sorted({row["seeds"] for row in rows})
    methods = dict.fromkeys((row["kind"], row["method"]) for row in rows)

    def cell(kind: str, method: str, count: int) -> str:
        row = next(one for one in rows if (one["kind"], one["method"], one["seeds"]) == (kind, method, count))
        return f"{percent(row['covered'], row['studies'])} ({row['median_length']:.1f})"

    return table(
        ["differences", "interval", *(f"{count} seeds" for count in seeds)],
        ([kind, method, *(cell(kind, method, count) for count in seeds)] for kind, method in methods),
    )


def sequence_level(rows: list[Row]) -> str:
    """Studies in which anything was called better or worse, in percent."""
    wrong = {(row["kind"], row["budget"]): percent(row["any_wrong"], row["studies"]) for row in rows}
    budgets = sorted({row["budget"] for row in rows})
    return table(
        ["scores", *(f"budget {budget}" for budget in budgets)],
        (
            [kind, *(wrong.get((kind, budget), "") for budget in budgets)]
            for kind in dict.fromkeys(row["kind"] for row in rows)
        ),
    )


def sequence_words(rows: list[Row]) -> str:
    """The extreme, what chance allows, and how many seeds it took."""
    studies = rows[0]["studies"]
    left = min((row["mean_seeds"] / row["budget"]) for row in rows)
    return (
        f"The largest share is {percent(max(row['any_wrong'] for row in rows), studies)} %, where chance allows "
        f"{percent(highest(rows), studies)} %. An arm without effect takes its budget: {100 * left:.1f} % of it at the "
        "least, on average."
    )


def sequence_effect(rows: list[Row]) -> str:
    """Power and price."""
    return table(
        ["budget", "looks", "effect", "better", "mean seeds", "one look at the end", "as powerful by one look", "bets"],
        (
            [
                str(row["budget"]),
                ", ".join(map(str, row["looks"])),
                f"{row['effect']:.2f}",
                f"{percent(row['better'], row['studies'])} %",
                f"{row['mean_seeds']:.1f}",
                f"{100 * row['fixed_power']:.1f} %",
                "" if row["fixed_seeds"] is None else f"{row['fixed_seeds']} seeds",
                f"{percent(row['by_bets'], row['studies'])} %",
            ]
            for row in rows
        ),
    )


def order(rows: list[Row]) -> str:
    """How often equal distributions are ordered, in percent."""
    return table(
        ["scores of each", "bound below 0.5", "bound below 0.2"],
        (
            [str(row["scores"]), *(f"{percent(row[key], row['studies'])} %" for key in ("below_half", "below_fifth"))]
            for row in rows
        ),
    )


def conditions(results: dict[str, Any]) -> str:
    """Where and when, question by question."""
    lines: list[str] = []
    for name, found in results.items():
        here = found["conditions"]
        numpy = here["packages"]["numpy"]
        lines.append(
            f"- {name}: {found['rows'][0]['studies']:,} studies a row, {found['seconds']} s on a busy machine "
            f"({here['cpu']}), Python {here['python']}, numpy {numpy}, scipy {found['scipy']}, {here['date'][:10]}"
        )
    return "\n".join(lines)
