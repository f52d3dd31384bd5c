"""From what a person asks for to a study that can run, or a sentence that says why it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from foveate import __version__, hosts
from foveate.errors import OptionError, PlaceError, check_at_least, check_positive
from foveate.registry import Spec
from foveate.study.arms.capacity import rooms_of
from foveate.study.arms.placebo import NoPlaceboError
from foveate.study.asked import Asked
from foveate.study.choices import (
    count_of,
    device_of,
    factor_of,
    fingerprint_of,
    library_of,
    look_of,
    most_samples,
    part_of_training,
    recipe_names,
    recipe_of,
    resplit_of,
    samples_of,
    start_of,
    weights_of,
)
from foveate.study.design import DEFAULT_ATTENTION, Arm, RunConfig, Study, arms_of
from foveate.study.material import GIVEN, network_of
from foveate.study.plain import code_fingerprint, lists
from foveate.study.statistics.looks import planned_looks
from foveate.train.kinds import Data, Kind, kind_of
from foveate.train.recipe import Recipe

TUNING_SEED = 10_000
ALL = ("all",)


class Metric(NamedTuple):
    """What is compared.

    Attributes:
        name: Of the score.
        better: Whether more of it is better, or less.
    """

    name: str
    better: Literal["max", "min"]


@dataclass(frozen=True)
class Prepared:
    """A study that can run.

    Attributes:
        study: What is compared.
        data: The samples as they were read.
        places: Where samples, weights and other test samples are, by name.
        said: What was said of each arm when it was built: what is left out, what does not start as the host.
        quick: Whether this is a quick look.
        metric: What is compared.
    """

    study: Study
    data: Data
    places: Mapping[str, str | None]
    said: Mapping[str, Sequence[str]]
    quick: bool
    metric: Metric


def prepare(
    data: str | Path | Data | None = None,
    host: str | None = None,
    weights: str | Path | None = "auto",
    attention: tuple[str | Spec, ...] = DEFAULT_ATTENTION,
    seeds: int = 3,
    *,
    work: str = "classification",
    asked: Asked | None = None,
) -> Prepared:
    """Design a study, and find out whether all of it can run, before any of it does.

    Args:
        data: Where the samples are, or samples already read; ``None`` for the embedded ones.
        host: The network; the usual one for the work, if ``None``.
        weights: ``"auto"`` starts networks of ours at random and all others from published weights; ``None`` or
            ``"none"`` starts at random; anything else as in :func:`foveate.hosts.build`.
        attention: The mechanisms to compare with the network as it is.
        seeds: Runs of each arm.
        work: The kind of work, as :func:`foveate.train.train` knows it.
        asked: What else was asked for.

    Raises:
        FoveateError: If any of it cannot work.

    Example:
        >>> study = prepare(attention=("se", "eca"), seeds=2).study
        >>> len(list(study.runs())), study.base.start
        (6, 'paper')
    """
    asked = Asked() if asked is None else asked
    arms = _arms(attention, asked)
    check_at_least("seeds", seeds, 1)
    kind = kind_of(work)
    host = kind.usual_host(kind.options()) if host is None else host
    source = weights_of(host, weights)
    if work == "classification":
        hosts.build(host, classes=2)  # a name that does not exist is said before a large folder is read
    settings = dict(asked.settings)
    recipe = {name: settings.pop(name) for name in recipe_names() if name in settings}
    samples, options = samples_of(kind, data, host, settings)
    count = count_of(asked.train_samples, len(samples.train), most_samples(work, source) if asked.quick else None)
    base = RunConfig(
        work=work,
        host=host,
        weights=source.name if isinstance(source, Path) else source,
        weights_fingerprint=None if source is None else fingerprint_of(kind, host, samples, source, options),
        role="baseline",
        attention=None,
        start=start_of(asked.start, source),
        at=asked.at,
        data=samples.name,
        fingerprint=samples.fingerprint,
        options=lists(asdict(options)),
        counts=(count, len(samples.validation), len(samples.test)),
        share=1.0,
        seed=0,
        resplit=resplit_of(asked.resplit, samples),
        recipe=recipe_of(kind, host, source, count, recipe, quick=asked.quick),
        tested=True,
        look=look_of(asked, work, samples),
        device=device_of(asked.device),
        foveate=__version__,
        code=code_fingerprint(),
        torch=torch.__version__,
        library=library_of(host),
    )
    if asked.relevant is not None:
        check_positive("the difference of interest", asked.relevant)
    if asked.grid:
        check_at_least("tuning_seeds", asked.tuning_seeds, 1)
    for what, values in (("a factor of the grid", asked.grid), ("a fraction", asked.fractions)):
        if twice := [value for value in values if values.count(value) > 1]:
            raise OptionError(f"{what} is named twice: {twice[0]:g}; once is enough")
    rate = float(base.recipe["learning_rate"])
    study = Study(
        base,
        arms,
        tuple(range(seeds)),
        rates=tuple(rate * factor_of(factor) for factor in asked.grid),
        tuning_seeds=tuple(range(TUNING_SEED, TUNING_SEED + asked.tuning_seeds)) if asked.grid else (),
        fractions=tuple(part_of_training(share) for share in asked.fractions),
        sequential=asked.sequential,
        relevant=asked.relevant,
    )
    places = {
        "data": str(data) if isinstance(data, str | Path) else None,
        "weights": None if source is None else str(source),
        "shifted": asked.shifted,
        "published": asked.published,
    }
    if study.sequential:
        planned_looks(len(study.seeds), study.alpha / len(study.compared))
    if data is not None and not isinstance(data, str | Path):
        GIVEN[samples.fingerprint] = samples
    study, said, metric = _built(study, kind, samples, source, every_placebo=asked.placebo == ALL)
    return Prepared(study, samples, places, said, asked.quick, metric)


def _arms(attention: tuple[str | Spec, ...], asked: Asked) -> tuple[Arm, ...]:
    capacity, placebo = (attention if one == ALL else one for one in (asked.capacity, asked.placebo))
    return arms_of(attention, capacity=capacity, placebo=placebo, larger=asked.larger)


def _built(
    study: Study, kind: Kind[Any], samples: Data, source: str | Path | None, *, every_placebo: bool
) -> tuple[Study, dict[str, list[str]], Metric]:
    """Every arm is built once, so that what cannot work is said now; a control that cannot be is left out."""
    said: dict[str, list[str]] = {}
    kept: list[Arm] = []
    metric = Metric("", "max")
    for arm in study.arms:
        config = study.config(arm, study.seeds[0])
        own = said.setdefault(arm.name, [])
        try:
            if arm.role == "capacity" and not _room(config, samples, source):
                said.setdefault(str(arm.spec), []).append(
                    "it adds no parameters, so that the network without it is its capacity control"
                )
                continue
            network, new, assembly = network_of(config, samples, source, own)
        except NoPlaceboError as error:
            if not every_placebo:
                raise
            said.setdefault(str(arm.spec), []).append(f"it has no placebo: {error}")
            continue
        except (OptionError, PlaceError) as error:
            raise type(error)(
                f"{arm.name} cannot go into {config.host}: {error}; leave it out, or choose another host or place"
            ) from error
        if arm.role == "baseline":
            task = kind.task(network, samples, Recipe(**config.recipe), assembly.chosen(), seed=0, new=new)
            metric = Metric(task.watched, task.better)
        kept.append(arm)
    return replace(study, arms=tuple(kept)), {name: lines for name, lines in said.items() if lines}, metric


def _room(config: RunConfig, samples: Data, source: str | Path | None) -> bool:
    attended, _, _ = network_of(replace(config, role="attention"), samples, source)
    return any(room.parameters for room in rooms_of(attended).values())
