"""The verdict of a whole comparison, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from foveate.study.counting import counted
from foveate.study.rows import Row, points
from foveate.study.wording import metric_name


def headline(rows: Sequence[Row], metric: str) -> str:
    """What came out, as a person would say it first.

    Args:
        rows: Of all arms.
        metric: What was compared.
    """
    judged = [row for row in rows if row.verdict is not None]
    named = metric_name(metric)
    if not judged:
        return "Nothing could be compared: no mechanism has finished runs."
    words: dict[str, list[Row]] = {}
    for row in judged:
        assert row.verdict is not None  # noqa: S101 (they were chosen by it)
        words.setdefault(row.verdict["word"], []).append(row)
    said: list[str] = []
    if better := words.get("better"):
        said.append(f"{_list(better)} {'is' if len(better) == 1 else 'are'} better than the network without attention")
    if worse := words.get("worse"):
        said.append(f"{_list(worse)} {'is' if len(worse) == 1 else 'are'} worse")
    if none := words.get("no evidence"):
        said.append(f"there is no evidence that {_list(none)} {'helps' if len(none) == 1 else 'help'} here")
    if under := words.get("underpowered"):
        verdict = under[0].verdict or {}
        most = [row.verdict["detectable"] for row in under if row.verdict and row.verdict["detectable"] is not None]
        seeds = counted(verdict["seeds"], "seed")
        why = f"{seeds} cannot decide about {_list(under) if len(under) < len(judged) else 'any of them'}"
        if verdict["seeds"] >= verdict["fewest"]:
            why = f"{seeds} are too few to see the difference of interest in {_list(under)}"
        elif most:
            why += (
                f": with {verdict['fewest']}, the smallest difference that could be seen is about "
                f"{points(max(most)).lstrip('+')} of {named}"
            )
        said.append(f"underpowered: {why}")
    text = "; ".join(said)
    named_first = any(text.startswith(row.arm) for row in judged)  # a name is written as it is
    return f"{text if named_first else text[0].upper() + text[1:]}."


def _list(rows: Sequence[Row]) -> str:
    names = [f"{row.arm} ({points(row.difference or 0.0)})" for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
