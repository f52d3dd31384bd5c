"""From what a person asks for to a study: every choice that was left open is made here, by rule and in advance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from foveate import __version__, hosts
from foveate.data.resplitting import resplit
from foveate.errors import (
    DataError,
    MissingExtraError,
    OptionError,
    PlaceError,
    check_at_least,
    check_choice,
    check_positive,
    nearest,
)
from foveate.hosts.weights import SUFFIXES
from foveate.registry import Spec
from foveate.study.arms.capacity import rooms_of
from foveate.study.budget import FINE_TUNING, QUICK_EPOCHS, QUICK_SAMPLES, SCRATCH, SHIFT
from foveate.study.design import (
    DEFAULT_ATTENTION,
    Arm,
    Look,
    RunConfig,
    Study,
    arms_of,
    code_fingerprint,
    counted,
)
from foveate.study.material import GIVEN, network_of
from foveate.study.statistics.looks import planned_looks
from foveate.train.kinds import Data, Kind, kind_of
from foveate.train.recipe import Recipe

# what our networks were designed for; networks made for 224 pixels halve their map five times: from 32 pixels nothing
# would be left to attend to
SMALL, SMALLEST_LARGE = 32, 96
# a batch of 32 images of this side takes 400 MB before the first layer
LARGEST = 1024
# data sets of fewer samples are dealt anew with every seed: one split of them decides much
SMALL_DATA = 3000
TUNING_SEED = 10_000
GRID = (1 / 3, 1.0, 3.0)


@dataclass(frozen=True)
class Asked:
    """What a person can ask for, besides data, host and mechanisms.

    Attributes:
        at: Where attention acts; where it usually does, if ``None``.
        start: ``"paper"`` or ``"identity"``; by default the paper's initialisation in a random network, for which it is
            made, and the identity in a trained one, which it leaves as good as it was.
        settings: Fields of :class:`~foveate.train.recipe.Recipe` and options of the work, by name.
        train_samples: Learn from so many samples only.
        capacity: Mechanisms that get a capacity control, or ``("all",)``.
        placebo: Mechanisms that get a placebo, or ``("all",)``.
        larger: Larger networks to compare with.
        grid: Factors of the learning rate that every arm is tried with on validation; none for one rate for all.
        tuning_seeds: How many seeds choose the rate.
        fractions: Parts of the training samples that every arm is trained with as well.
        corruptions: Strengths at which test samples are corrupted.
        published: A folder of published corrupted samples.
        shifted: A folder of other test samples.
        focus: How many test samples the focus of attention is judged on.
        resplit: Whether samples are dealt to the splits anew with every seed; by default where there are few, and
            they came without splits.
        sequential: Whether seeds are added until the question is decided; the number of seeds is then the budget.
        relevant: The smallest difference that somebody would care about, in the metric's units.
        quick: Fewer samples and epochs.
        device: ``"cpu"`` or ``"cuda"``; by default a GPU if there is one.
    """

    at: str | None = None
    start: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    train_samples: int | None = None
    capacity: tuple[str | Spec, ...] = ()
    placebo: tuple[str | Spec, ...] = ()
    larger: tuple[str, ...] = ()
    grid: tuple[float, ...] = ()
    tuning_seeds: int = 1
    fractions: tuple[float, ...] = ()
    corruptions: tuple[int, ...] = ()
    published: str | None = None
    shifted: str | None = None
    focus: int = 0
    resplit: bool | None = None
    sequential: bool = False
    relevant: float | None = None
    quick: bool = False
    device: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        own = asdict(replace(self, capacity=(), placebo=()))
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in own.items()},
            "settings": _plain(dict(self.settings)),
            "capacity": [str(one) for one in self.capacity],
            "placebo": [str(one) for one in self.placebo],
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Asked:
        """What gave these plain values."""
        found: dict[str, Any] = _tuples({**values, "settings": None})
        found["settings"] = _tuples(values["settings"])
        return cls(**found)


@dataclass(frozen=True)
class Prepared:
    """A study that can run.

    Attributes:
        study: What is compared.
        data: The samples as they were read.
        places: Where samples, weights and other test samples are, by name.
        said: What was said of each arm when it was built: what is left out, what does not start as the host.
        quick: Whether this is a quick look.
        metric: What is compared, and whether more or less of it is better.
    """

    study: Study
    data: Data
    places: Mapping[str, str | None]
    said: Mapping[str, Sequence[str]]
    quick: bool
    metric: tuple[str, str]


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
    source = _weights(host, weights)
    if work == "classification":
        hosts.build(host, classes=2)  # a name that does not exist is said before a large folder is read
    settings = dict(asked.settings)
    recipe = {name: settings.pop(name) for name in _recipe_names() if name in settings}
    samples, options = _data(kind, data, host, settings)
    count = _count(asked.train_samples, len(samples.train), _most(work, source) if asked.quick else None)
    base = RunConfig(
        work=work,
        host=host,
        weights=source.name if isinstance(source, Path) else source,
        weights_fingerprint=None if source is None else _fingerprint(kind, host, samples, source, options),
        role="baseline",
        attention=None,
        start=_start(asked.start, source),
        at=asked.at,
        data=samples.name,
        fingerprint=samples.fingerprint,
        options=_plain(asdict(options)),
        counts=(count, len(samples.validation), len(samples.test)),
        share=1.0,
        seed=0,
        resplit=_resplit(asked.resplit, samples),
        recipe=_recipe(kind, host, source, count, recipe, quick=asked.quick),
        tested=True,
        look=_look(asked),
        device=_device(asked.device),
        foveate=__version__,
        code=code_fingerprint(),
        torch=torch.__version__,
        library=_library(host),
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
        rates=tuple(rate * _factor(factor) for factor in asked.grid),
        tuning_seeds=tuple(range(TUNING_SEED, TUNING_SEED + asked.tuning_seeds)) if asked.grid else (),
        fractions=tuple(_part(share) for share in asked.fractions),
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
    study, said, metric = _built(study, kind, samples, source)
    return Prepared(study, samples, places, said, asked.quick, metric)


def rules(study: Study) -> list[str]:
    """How the comparison is made, in sentences for whoever reads its results.

    Example:
        >>> print(rules(prepare(attention=("se",), seeds=2).study)[0])
        Every arm has the same budget: 8 epochs of 1,800 samples, batches of 32, SGD with momentum 0.9.
    """
    base, recipe = study.base, Recipe(**study.base.recipe)
    beginning = "trained from scratch" if base.weights is None else f"fine-tuned from the weights {base.weights}"
    initial = (
        "Attention starts as its paper initialises it."
        if base.start == "paper"
        else "Attention starts as the identity, so that it changes nothing until it has learned to."
    )
    by = f"SGD with momentum {recipe.momentum:g}" if recipe.optimizer == "sgd" else "AdamW"
    if study.rates:
        rates = ", ".join(f"{rate:.3g}" for rate in study.rates)
        rate = (
            f"The learning rate of every arm, the baseline's too, is the one of {rates} that was best on validation "
            f"with {counted(len(study.tuning_seeds), 'seed')} that no other run uses; these runs did not look at "
            f"{'their' if base.resplit else 'the'} test samples."
        )
    else:
        rate = f"One learning rate, {recipe.learning_rate:g}, was fixed in advance for all arms."
    falls = {"cosine": "falls along a half cosine", "poly": "falls as a power", "constant": "stays"}[recipe.schedule]
    found = [
        f"Every arm has the same budget: {counted(recipe.epochs, 'epoch')} of {counted(base.counts[0], 'sample')}, "
        f"batches of {recipe.batch_size}, {by}.",
        f"{rate} It rises linearly over the first {recipe.warmup:.0%} of the steps and {falls}. Weight decay is "
        f"{recipe.weight_decay:g}, none for norms, biases and blends.",
        f"{base.host} is {beginning}. {initial}",
        "Runs with the same seed are paired: the same initial host, the same samples in the same order, changed alike.",
        "A network is judged with the weights of the epoch that was best on validation, on test samples that were "
        "looked at once.",
    ]
    if base.resplit:
        found.append("The samples are few: with every seed they are dealt anew to training, validation and test.")
    if any(arm.role == "capacity" for arm in study.arms):
        found.append(
            "A capacity control has, at the places of the mechanism, as many parameters as it has, in 1×1 convolutions "
            "and a scale and a shift of channels: the same for every input."
        )
    if any(arm.role == "placebo" for arm in study.arms):
        found.append(
            "A placebo is the mechanism with its parameters and its operations, blind to its input: its weights are "
            "computed from the running mean of the maps it was given."
        )
    if study.sequential:
        found.append(
            "Seeds were added until every arm was decided or the budget was spent; the error probability holds over "
            "all looks, which were planned in advance."
        )
    return found


def _arms(attention: tuple[str | Spec, ...], asked: Asked) -> tuple[Arm, ...]:
    capacity, placebo = (attention if one == ("all",) else one for one in (asked.capacity, asked.placebo))
    return arms_of(attention, capacity=capacity, placebo=placebo, larger=asked.larger)


def _weights(host: str, weights: str | Path | None) -> str | Path | None:
    if weights == "auto":
        return None if host.startswith(("foveate/", "monai/")) else "pretrained"
    if weights is None or weights == "none":
        return None
    return Path(weights) if str(weights).endswith(SUFFIXES) else weights


def _start(start: str | None, source: str | Path | None) -> str:
    if start is None:
        return "paper" if source is None else "identity"
    check_choice("start", start, ("identity", "paper"))
    return start


def _data(kind: Kind[Any], data: str | Path | Data | None, host: str, chosen: Mapping[str, Any]) -> tuple[Data, Any]:
    """The samples, and the options of the work with everything settled."""
    known = [one.name for one in fields(kind.options)]
    for name in chosen:
        if name not in known:
            raise OptionError(f"{kind.name} has no option '{name}'; {nearest(name, [*known, *_recipe_names()])}")
    if kind.name != "classification":
        options = kind.options(**chosen)
        samples = (
            data if data is not None and not isinstance(data, str | Path) else kind.data(_path(data), options, seed=0)
        )
        return samples, kind.settled(samples, options, host)
    chosen = {"shift": SHIFT, **chosen}
    size = chosen.get("size")
    if data is not None and not isinstance(data, str | Path):
        return data, kind.settled(data, kind.options(**chosen), host)
    if data is None:
        if size is not None:
            raise OptionError("image_size is for a folder of images; those of the embedded sample are 28×28")
    elif size is not None:
        check_at_least("image_size", size, 1)
        if size > LARGEST:
            raise OptionError(f"image_size is a side in pixels, {LARGEST:,} at most, not {size:,}")
    elif host.startswith("foveate/"):
        chosen["size"] = SMALL
    options = kind.options(**chosen)
    samples = kind.data(_path(data), options, seed=0)
    if data is not None and options.size is None and int(samples.train[0][0].shape[1]) < SMALLEST_LARGE:
        options = kind.options(**{**chosen, "size": SMALLEST_LARGE})
        samples = kind.data(_path(data), options, seed=0)
    return samples, kind.settled(samples, options, host)


def _path(data: Any) -> Path | None:
    return None if data is None else Path(data)


def _recipe_names() -> list[str]:
    return [one.name for one in fields(Recipe)]


def _recipe(
    kind: Kind[Any], host: str, source: str | Path | None, count: int, chosen: Mapping[str, Any], *, quick: bool
) -> dict[str, Any]:
    """How all arms are trained."""
    if kind.name == "classification":
        budget = SCRATCH if source is None else FINE_TUNING
        return Recipe(**budget.recipe(count, chosen, quick=quick)).as_dict()
    usual = dict(kind.usual_of(host))
    if quick:
        usual["epochs"] = QUICK_EPOCHS
    return Recipe(**{**usual, **chosen}).as_dict()


def _most(work: str, source: str | Path | None) -> int:
    if work != "classification":
        return QUICK_SAMPLES
    return (SCRATCH if source is None else FINE_TUNING).quick_samples


def _count(wanted: int | None, there: int, most: int | None) -> int:
    if wanted is None:
        return there if most is None else min(there, most)
    check_at_least("train_samples", wanted, 1)
    if wanted > there:
        raise OptionError(f"train_samples is {wanted:,}, and there are {there:,} to learn from: ask for fewer")
    return wanted


def _factor(factor: float) -> float:
    check_positive("a factor of the grid", factor)
    return float(factor)


def _part(share: float) -> float:
    if not 0 < share < 1:
        raise OptionError(f"a fraction of the training samples lies between 0 and 1, not at {share!r}")
    return float(share)


def _resplit(wanted: bool | None, samples: Any) -> bool:
    """Whether samples are dealt anew with every seed; tried here, so that what cannot be is said before anything runs.

    Raises:
        DataError: If it was asked for, and they cannot be.
    """
    official = getattr(samples, "official", ("train", "validation", "test"))
    total = sum(len(split) for split in (samples.train, samples.validation, samples.test))
    if wanted is False or (wanted is None and (official or total >= SMALL_DATA)):
        return False
    try:
        resplit(samples, 0)
    except DataError:
        if wanted:
            raise
        return False
    return True


def _look(asked: Asked) -> Look:
    for strength in asked.corruptions:
        check_choice("strength", strength, (1, 2, 3, 4, 5))
    check_at_least("focus", asked.focus, 0)
    if asked.focus and find_spec("pytorch_grad_cam") is None:
        raise MissingExtraError("grad-cam", "explain")
    return Look(
        corruptions=asked.corruptions,
        published=_listing(asked.published),
        shifted=_listing(asked.shifted),
        focus=asked.focus,
    )


def _listing(path: str | None) -> str | None:
    """A hash of the names and sizes in a folder."""
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise OptionError(f"'{path}' is no folder of test samples")
    content = hashlib.sha256()
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        content.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
    return content.hexdigest()[:16]


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_choice("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device=cuda, but PyTorch finds no GPU here: use device=cpu")
    return device


def _library(host: str) -> str | None:
    source = host.partition("/")[0]
    packages = {"smp": "segmentation-models-pytorch"}
    return None if source == "foveate" else f"{source} {metadata.version(packages.get(source, source))}"


def _fingerprint(kind: Kind[Any], host: str, samples: Data, source: str | Path, options: Any) -> str:
    """A hash of the weights themselves: what "pretrained" means depends on what lies on the disk."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channels = kind.channels(samples, source)
        network, _ = kind.network(host, samples.classes, channels, source, options)
    content = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        content.update(name.encode() + tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _built(
    study: Study, kind: Kind[Any], samples: Data, source: str | Path | None
) -> tuple[Study, dict[str, list[str]], tuple[str, str]]:
    """Every arm is built once, so that what cannot work is said now; a control that would be empty is left out."""
    said: dict[str, list[str]] = {}
    kept: list[Arm] = []
    metric = ("", "max")
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
        except (OptionError, PlaceError) as error:
            raise type(error)(
                f"{arm.name} cannot go into {config.host}: {error}; leave it out, or choose another host or place"
            ) from error
        if arm.role == "baseline":
            task = kind.task(network, samples, Recipe(**config.recipe), assembly.chosen(), seed=0, new=new)
            metric = (task.watched, task.better)
        kept.append(arm)
    return replace(study, arms=tuple(kept)), {name: lines for name, lines in said.items() if lines}, metric


def _room(config: RunConfig, samples: Data, source: str | Path | None) -> bool:
    attended, _, _ = network_of(replace(config, role="attention"), samples, source)
    return any(room.parameters for room in rooms_of(attended).values())
