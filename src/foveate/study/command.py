"""The command line that asks for a comparison again, with every choice written out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from foveate.study.choices import SMALL_DATA
from foveate.train.kinds import kind_of
from foveate.train.recipe import Recipe

# what the referee chooses by itself where a person does not: another default than that of the recipe or the option
CHOSEN = ("epochs", "batch_size", "learning_rate", "weight_decay", "shift")


def command(study: Mapping[str, Any]) -> str:
    """The command line for a study.

    Args:
        study: As ``study.json`` has it.

    Returns:
        Words for a shell, quoted where they need to be.
    """
    words = ["foveate", "compare"]
    for name, value in _options(study):
        if value is True:
            words.append(name)
        elif value not in (None, False, "", 0):
            words += [name, shlex.quote(str(value))]
    return " ".join(words)


def _options(study: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    shared, places = study["shared"], study["places"]
    arms = {
        role: [arm for arm in study["arms"] if arm["role"] == role] for role in (arm["role"] for arm in study["arms"])
    }

    def mechanisms(role: str) -> str:
        return ",".join(arm["attention"] for arm in arms.get(role, ()))

    yield "--work", shared["work"]
    yield "--data", places.get("data")
    yield "--host", shared["host"]
    yield "--weights", places.get("weights") or shared["weights"] or "none"
    yield "--attention", mechanisms("attention")
    yield "--at", shared["at"]
    yield "--start", shared["start"]
    yield "--seeds", len(study["seeds"])
    for name, value in _settings(study):
        yield "--set", f"{name}={value}"
    yield "--train-samples", shared["counts"][0]
    yield "--capacity", mechanisms("capacity")
    yield "--placebo", mechanisms("placebo")
    yield "--larger", ",".join(arm["host"] for arm in arms.get("larger", ()))
    base = float(shared["recipe"]["learning_rate"])
    yield "--grid", ",".join(_factor(rate, base) for rate in study["rates"])
    yield "--tuning-seeds", len(study["tuning_seeds"])
    yield "--fractions", ",".join(f"{share!r}" for share in study["fractions"])
    yield "--corruptions", ",".join(map(str, shared["look"]["corruptions"]))
    yield "--published", places.get("published")
    yield "--shifted", places.get("shifted")
    yield "--focus", shared["look"]["focus"]
    yield "--resplit", shared["resplit"]
    yield (
        "--no-resplit",
        places.get("data") is not None and not shared["resplit"] and sum(shared["counts"]) < SMALL_DATA,
    )
    yield "--sequential", study["sequential"]
    yield "--relevant", study["relevant"]
    yield "--quick", study["quick"]


def _settings(study: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields of the recipe and options of the work that are not what they are anyway."""
    shared = study["shared"]
    kind = kind_of(shared["work"])
    usual = {one.name: one.default for cls in (Recipe, kind.options) for one in fields(cls)}
    chosen = {*CHOSEN, *kind.usual_of(shared["host"])}
    for name, value in {**shared["recipe"], **shared["options"]}.items():
        embedded = name == "size" and study["places"].get("data") is None
        plain = tuple(value) if isinstance(value, list) else value
        if not embedded and (name in chosen or plain != usual.get(name)):
            yield name, _text(plain)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _factor(rate: float, base: float) -> str:
    """The shortest number that makes the one rate of the other, to the last bit: another rate would be another run.

    Example:
        >>> _factor(0.1 * (1 / 3), 0.1), _factor(0.30000000000000004, 0.1)
        ('0.3333333333333333', '3')
    """
    texts = [f"{rate / base:.{digits}g}" for digits in range(1, 18)]
    return next((text for text in texts if base * float(text) == rate), repr(rate / base))
