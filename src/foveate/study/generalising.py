"""How arms generalise: with fewer samples, on other images, and how sure of themselves they are; arm minus baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from foveate.data.corruptions import FAMILIES
from foveate.study.design import BASELINE
from foveate.study.robustness import Robustness, robustness_of
from foveate.study.rows import Runs
from foveate.study.statistics import Estimate, estimate, paired_difference

CALIBRATION = ("ece", "adaptive_ece", "brier", "nll")
Read = Callable[[Mapping[str, Any]], float | None]


def beside_baseline(runs: Runs, read: Read) -> dict[str, Any]:
    """Of every arm the mean of a number over seeds, and its mean difference to the baseline, with intervals.

    Args:
        runs: By arm.
        read: The number of a run; ``None`` where it has none.

    Example:
        >>> runs = {"baseline": [{"seed": 0, "x": 1.0}], "se": [{"seed": 0, "x": 1.5}]}
        >>> beside_baseline(runs, lambda run: run["x"])["se"]["difference"]["mean"]
        0.5
    """
    base = {run["seed"]: read(run) for run in runs[BASELINE]}
    found: dict[str, Any] = {}
    for arm, own in runs.items():
        pairs = [(value, base.get(run["seed"])) for run in own if (value := read(run)) is not None]
        if not pairs:
            continue
        found[arm] = {"mean": _plain(estimate([value for value, _ in pairs]))}
        both = [(value, other) for value, other in pairs if other is not None]
        if arm != BASELINE and both:
            difference = paired_difference([value for value, _ in both], [other for _, other in both])
            found[arm]["difference"] = _plain(difference)
    return found


def curves_of(main: Runs, parts: Mapping[float, Runs], metric: str) -> dict[str, Any]:
    """Test score against the part of the training samples, whole at last.

    Args:
        main: The runs with all samples.
        parts: Those with a part of them.
        metric: What is compared.
    """

    def read(run: Mapping[str, Any]) -> float | None:
        return run["test"][metric]

    parts = {share: runs for share, runs in parts.items() if BASELINE in runs}
    if not parts:
        return {}
    return {f"{share:g}": beside_baseline(runs, read) for share, runs in (*sorted(parts.items()), (1.0, main))}


def robustness_of_arms(runs: Runs, metric: str) -> dict[str, Any]:
    """Scores on corrupted and on other test samples; a run with a score that could not be had is left out.

    Returns:
        ``"corruptions"``: by family, and ``"all"`` of them, a table of arms; ``"strengths"``: the same by strength;
        ``"single"``: the same by corruption; ``"kept"`` and ``"relative_error"``: a table each, as in
        :class:`~foveate.study.robustness.Robustness`; ``"shifted"``: by name of the samples, where there are others.
    """
    first = runs[BASELINE][0]
    found: dict[str, Any] = {}
    if first.get("corruptions"):
        seen = _summaries(runs, metric)

        def table(read: Callable[[Robustness], float | None]) -> dict[str, Any]:
            return beside_baseline(runs, lambda run: None if (one := seen.get(_which(run))) is None else read(one))

        some = next(iter(seen.values()), None)
        families, strengths = ([], []) if some is None else (list(some.families), list(some.strengths))
        found["corruptions"] = {
            "all": table(lambda one: one.mean),
            **{family: table(lambda one, family=family: one.families[family]) for family in families},
        }
        found["strengths"] = {
            str(strength): table(lambda one, strength=strength: one.strengths[strength]) for strength in strengths
        }
        found["single"] = {name: beside_baseline(runs, _single(name)) for name in first["corruptions"]}
        found["kept"] = table(lambda one: one.kept)
        # of one run over another: a difference to the baseline's, which is 1, would say the same again
        found["relative_error"] = {
            arm: {"mean": entry["mean"]} for arm, entry in table(lambda one: one.relative_error).items()
        }
    for name in first.get("shifted") or {}:
        found.setdefault("shifted", {})[name] = beside_baseline(runs, _shifted(name, metric))
    return found


def _summaries(runs: Runs, metric: str) -> dict[tuple[str, int], Robustness]:
    """Of every run whose scores are all there."""
    base = {run["seed"]: _scores(run) for run in runs[BASELINE]}
    found: dict[tuple[str, int], Robustness] = {}
    for arm, own in runs.items():
        for run in own:
            scores, beside = _scores(run), None if arm == BASELINE else base.get(run["seed"])
            if scores is not None:
                found[_which(run)] = robustness_of(scores, run["test"][metric], FAMILIES, beside)
    return found


def _scores(run: Mapping[str, Any]) -> dict[tuple[str, int], float] | None:
    scores = {
        (name, int(strength)): value
        for name, those in (run.get("corruptions") or {}).items()
        for strength, value in those.items()
    }
    # a metric says -1 or nothing where it has nothing to count
    return scores if scores and all(value is not None and 0 <= value <= 1 for value in scores.values()) else None


def _which(run: Mapping[str, Any]) -> tuple[str, int]:
    return run["arm"], run["seed"]


def calibration_of_arms(runs: Runs) -> dict[str, Any]:
    """Calibration errors as they are, and after temperature scaling: by measure, a table of arms."""
    if not runs[BASELINE][0].get("calibration"):
        return {}
    return {
        f"{name}{'' if which == 'plain' else ' scaled'}": beside_baseline(runs, _calibrated(which, name))
        for which in ("plain", "scaled")
        for name in CALIBRATION
    }


def focus_of_arms(runs: Runs) -> dict[str, Any]:
    """Of every arm's maps, by measure: the mean, and the difference to the Grad-CAM of the baseline."""
    first = runs[BASELINE][0].get("focus")
    if not first:
        return {}
    found: dict[str, Any] = {}
    base = {run["seed"]: run["focus"]["Grad-CAM"] for run in runs[BASELINE]}
    for arm, own in runs.items():
        for which in own[0]["focus"]:
            for measure in own[0]["focus"][which]:
                values = [run["focus"][which][measure] for run in own]
                others = [base[run["seed"]][measure] for run in own]
                if None in values or None in others:
                    continue
                entry: dict[str, Any] = {"mean": _plain(estimate(values))}
                if (arm, which) != (BASELINE, "Grad-CAM"):
                    entry["difference"] = _plain(paired_difference(values, others))
                found.setdefault(arm, {}).setdefault(which, {})[measure] = entry
    return found


def _single(name: str) -> Read:
    def read(run: Mapping[str, Any]) -> float | None:
        seen = list((run.get("corruptions") or {}).get(name, {}).values())
        return None if None in seen or not seen else sum(seen) / len(seen)

    return read


def _shifted(name: str, metric: str) -> Read:
    return lambda run: (run.get("shifted") or {}).get(name, {}).get(metric)


def _calibrated(which: str, name: str) -> Read:
    return lambda run: ((run.get("calibration") or {}).get(which) or {}).get(name)


def _plain(found: Estimate) -> dict[str, Any]:
    return asdict(found)
