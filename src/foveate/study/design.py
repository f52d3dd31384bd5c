"""What is compared, written down before anything runs: arms, seeds, stages, and one configuration for each run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from foveate.errors import OptionError
from foveate.registry import Spec, get, parse
from foveate.study.plain import canonical, digest

BASELINE = "baseline"
DEFAULT_ATTENTION = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")
Role = Literal["baseline", "attention", "capacity", "placebo", "larger"]


@dataclass(frozen=True)
class Arm:
    """One of the things compared.

    Attributes:
        role: The network as it is (``"baseline"``), with a mechanism (``"attention"``), with as many parameters
            (``"capacity"``) or the same module blind to its input (``"placebo"``) instead, or a larger network
            (``"larger"``).
        spec: The mechanism.
        host: The larger network.
    """

    role: Role = "baseline"
    spec: Spec | None = None
    host: str | None = None

    @property
    def name(self) -> str:
        """What the arm is called everywhere.

        Example:
            >>> Arm().name, Arm("attention", parse("se:reduction=4")).name, Arm("placebo", parse("se")).name
            ('baseline', 'squeeze_excite:reduction=4', 'placebo of squeeze_excite')
        """
        if self.role == "baseline":
            return BASELINE
        if self.role == "larger":
            return str(self.host)
        return str(self.spec) if self.role == "attention" else f"{self.role} of {self.spec}"

    @property
    def against(self) -> str | None:
        """The arm of the mechanism that a control belongs to."""
        return str(self.spec) if self.role in ("capacity", "placebo") else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the mechanism's title and kind."""
        about: dict[str, Any] = {"name": self.name, "role": self.role, "attention": None, "kind": None}
        if self.role == "larger":
            return {**about, "title": f"larger network: {self.host}", "host": self.host}
        if self.spec is None:
            return {**about, "title": BASELINE}
        found = get(self.spec.name)
        kind = found.kind(**dict(self.spec.options))
        said = {"attention": "", "capacity": "as many parameters as ", "placebo": "blind "}[self.role]
        return {**about, "attention": str(self.spec), "title": f"{said}{found.card.title}", "kind": kind}


@dataclass(frozen=True)
class Look:
    """What is looked at after training, besides the test samples.

    Attributes:
        corruptions: Strengths at which test samples are corrupted; none for none.
        corrupted: How many test samples are, at most.
        published: A folder of published corrupted samples, by its fingerprint.
        shifted: A folder of other test samples, by its fingerprint.
        focus: How many test samples the focus of attention is judged on; 0 for none.
    """

    corruptions: tuple[int, ...] = ()
    corrupted: int = 500
    published: str | None = None
    shifted: str | None = None
    focus: int = 0


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run's numbers depend on, besides the machine.

    Attributes:
        work: The kind of work, such as ``"classification"``.
        host: The network.
        weights: Where its weights come from; ``None`` if it is random.
        weights_fingerprint: A hash of them.
        role: Of the arm.
        attention: The mechanism with its options; of a control, the one that it belongs to.
        start: How the mechanism starts: ``"paper"`` or ``"identity"``.
        at: Where it acts; where it usually does, if ``None``.
        data: Name of the data.
        fingerprint: A hash of the data and its splits with the first seed.
        options: Of the kind of work.
        counts: Samples to learn from, to choose by and to test on.
        share: The part of the training samples that is learned from.
        seed: Of initialisation, order and augmentation.
        resplit: Whether samples are dealt to the splits anew with every seed.
        recipe: How it is trained: fields of :class:`~foveate.train.recipe.Recipe`.
        tested: Whether the test samples are looked at; a run that chooses a learning rate does not.
        look: What else is looked at.
        device: Kind of device.
        foveate: Version.
        code: A hash of the parts of foveate that shape the numbers.
        torch: Version.
        library: The package that the host comes from, with its version.
    """

    work: str
    host: str
    weights: str | None
    weights_fingerprint: str | None
    role: Role
    attention: str | None
    start: str | None
    at: str | None
    data: str
    fingerprint: str
    options: Mapping[str, Any]
    counts: tuple[int, int, int]
    share: float
    seed: int
    resplit: bool
    recipe: Mapping[str, Any]
    tested: bool
    look: Look
    device: str
    foveate: str
    code: str
    torch: str
    library: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON gives them back."""
        return json.loads(canonical(asdict(self)))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunConfig:
        """The configuration that gave these plain values."""
        look = dict(values["look"])
        look["corruptions"] = tuple(look["corruptions"])
        own: dict[str, Any] = {**values, "counts": tuple(values["counts"]), "look": Look(**look)}
        return cls(**own)

    @property
    def key(self) -> str:
        """A short name that another configuration does not have."""
        return digest(self.as_dict())[:16]


@dataclass(frozen=True)
class Study:
    """Arms times seeds, in stages.

    Attributes:
        base: The configuration that all runs share; what an arm or a stage is replaces some of it.
        arms: What is compared; the first is the baseline.
        seeds: Every arm runs once with each.
        rates: Learning rates that every arm is tried with, before its seeds run; none for the one of the recipe.
        tuning_seeds: Seeds of those trials: others than of the study.
        fractions: Parts of the training samples, below 1, that every arm is trained with as well.
        sequential: Whether seeds are added until the question is decided; ``seeds`` is then the budget.
        relevant: The smallest difference that somebody would care about, in the metric's units.
        alpha: The probability allowed for a wrong *better* or *worse*.
    """

    base: RunConfig
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...] = ()
    tuning_seeds: tuple[int, ...] = ()
    fractions: tuple[float, ...] = ()
    sequential: bool = False
    relevant: float | None = None
    alpha: float = 0.05
    chosen: Mapping[str, float] = field(default_factory=dict[str, float])

    def config(self, arm: Arm, seed: int, **more: Any) -> RunConfig:
        """The configuration of one arm with one seed."""
        own: dict[str, Any] = {"seed": seed, "role": arm.role}
        own["attention"] = None if arm.spec is None else str(arm.spec)
        if arm.spec is None:
            own |= {"start": None, "at": None}
        if arm.host is not None:
            own |= {"host": arm.host}
        rate = more.pop("rate", self.chosen.get(arm.name))
        if rate is not None:
            own["recipe"] = {**self.base.recipe, "learning_rate": rate}
        return replace(self.base, **own, **more)

    def tuning(self) -> Iterator[tuple[Arm, float, RunConfig]]:
        """The runs that choose each arm's learning rate by validation: the test samples are not looked at."""
        for seed in self.tuning_seeds:
            for rate in self.rates:
                for arm in self.arms:
                    yield arm, rate, self.config(arm, seed, rate=rate, tested=False, look=Look())

    def runs(self) -> Iterator[tuple[Arm, RunConfig]]:
        """Every run that is counted, seed by seed, so that what is finished early can be compared already."""
        for seed in self.seeds:
            for arm in self.arms:
                yield arm, self.config(arm, seed)

    def curve(self) -> Iterator[tuple[Arm, float, RunConfig]]:
        """The runs with part of the training samples."""
        for seed in self.seeds:
            for share in self.fractions:
                for arm in self.arms:
                    yield arm, share, self.config(arm, seed, share=share, look=Look())

    def shared(self) -> dict[str, Any]:
        """What is the same in every run."""
        own = {"attention", "seed", "role", "share", "tested"}
        return {name: value for name, value in self.base.as_dict().items() if name not in own}

    @property
    def compared(self) -> tuple[Arm, ...]:
        """The arms that are judged together against the baseline: mechanisms."""
        return tuple(arm for arm in self.arms if arm.role == "attention")


def arms_of(
    attention: tuple[str | Spec, ...],
    *,
    capacity: tuple[str | Spec, ...] = (),
    placebo: tuple[str | Spec, ...] = (),
    larger: tuple[str, ...] = (),
) -> tuple[Arm, ...]:
    """The baseline, one arm for each mechanism, and the controls that were asked for.

    Args:
        attention: The mechanisms.
        capacity: Those that get a capacity control.
        placebo: Those that get a placebo.
        larger: Other networks to compare with.

    Raises:
        OptionError: If a mechanism does not exist, comes twice, there is none, or a control has no mechanism.

    Example:
        >>> [arm.name for arm in arms_of(("se", "cbam"), placebo=("cbam",))]
        ['baseline', 'squeeze_excite', 'cbam', 'placebo of cbam']
    """
    specs = [_spec(chosen) for chosen in attention]
    if not specs:
        raise OptionError("there is nothing to compare with the baseline: name at least one mechanism")
    arms = [Arm(), *(Arm("attention", spec) for spec in specs)]
    for role, wanted in (("capacity", capacity), ("placebo", placebo)):
        for spec in map(_spec, wanted):
            if spec not in specs:
                raise OptionError(f"a {role} of '{spec}' needs '{spec}' among the mechanisms: it is compared with it")
            arms.append(Arm(role, spec))  # type: ignore[arg-type]
    arms += [Arm("larger", None, host) for host in larger]
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"'{name}' is named twice: once is enough")
    return tuple(arms)


def _spec(chosen: str | Spec) -> Spec:
    return parse(chosen) if isinstance(chosen, str) else chosen
