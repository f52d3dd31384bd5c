"""Whether attention depends on what it sees: its maps replaced by their means over the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from foveate.errors import FoveateError, check_positive
from foveate.explain.at_rest import at_rest
from foveate.explain.recording.hearing import Heard, MapName, batches_again, hearing, unseen
from foveate.explain.scores import Score, answers, as_many, correct
from foveate.explain.trust.effect import Effect, effect, paired
from foveate.explain.trust.means import MeanMap, replaced_maps

Verdict = Literal["a learned constant", "depends on its input", "better as a constant", "undecided"]
MARGIN = 0.01


@dataclass(frozen=True)
class Replaced:
    """What changes where maps are replaced by their means.

    Attributes:
        names: Which maps.
        effect: The mean change of the measure, image by image.
        verdict: In one word or a few; see :func:`ablate`.
        shared: Whether a relation's mean is the same for all targets.
        values: The measure of each image with the means in place.
    """

    names: tuple[MapName, ...]
    effect: Effect
    verdict: Verdict
    shared: bool
    values: tuple[float, ...]


@dataclass(frozen=True)
class Ablation:
    """What the maps of a network are worth beyond their means.

    Attributes:
        measure: What was measured, in words.
        margin: Below which change a map counts as a constant.
        base: The measure with the maps as they are.
        places: Place by place, one replaced at a time.
        together: All of them replaced.
        unseen: Attention whose maps nobody knows how to see, and which stayed as it is.
    """

    measure: str
    margin: float
    base: Effect
    places: tuple[Replaced, ...]
    together: Replaced
    unseen: tuple[str, ...]

    def sentences(self) -> list[str]:
        """The verdicts in words, of all maps together first."""
        lines = [self._said("attention as a whole", self.together)] if len(self.places) != 1 else []
        lines += [self._said(f"attention at {_place(one)}", one) for one in self.places]
        if self.unseen:
            lines.append(
                f"{', '.join(self.unseen)}: how to replace these maps is not known, and they stayed as they are"
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""

        def told(one: Replaced) -> dict[str, Any]:
            names = [str(name) for name in one.names]
            return {"maps": names, "effect": one.effect.as_dict(), "verdict": one.verdict, "shared": one.shared}

        return {
            "measure": self.measure,
            "margin": self.margin,
            "base": self.base.as_dict(),
            "places": {_place(one): told(one) for one in self.places},
            "together": told(self.together),
            "unseen": list(self.unseen),
            "sentences": self.sentences(),
        }

    def _said(self, what: str, one: Replaced) -> str:
        maps = "its maps by their means" if len(one.names) > 1 else "its map by the mean"
        over = ", over images and targets" if one.shared else ""
        change = f"replacing {maps}{over} changes {self.measure} by {one.effect.points()}"
        margin = f"{100 * self.margin:g} point{'' if self.margin == 0.01 else 's'}"
        match one.verdict:
            case "a learned constant":
                return f"{what} is a learned constant: {change}, less than {margin}"
            case "depends on its input":
                takes = ", or on the position that looks," if one.shared else ""
                return f"{what} depends on its input{takes} and the network uses it: {change}"
            case "better as a constant":
                return f"{what} does better as a constant: {change}"
            case "undecided":
                count = one.effect.count
                return f"whether {what} is more than a learned constant is undecided on {count} images: {change}"


def ablate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Sequence[Any]]],
    *,
    score: Score = correct,
    measure: str = "accuracy",
    mean_over: Iterable[Any] | None = None,
    margin: float = MARGIN,
    each: bool = True,
) -> Ablation:
    """Replace every map by its mean over the data and see what it costs: nothing, where the module is a constant.

    A map whose mean does as well is *a learned constant*: the interval of the change lies within the margin. It
    *depends on its input* where the measure falls and the interval excludes zero, and is *better as a constant* where
    it rises so. Otherwise it is *undecided*: too few images. Of a network that is no better than chance nothing can
    fall, and the verdict says nothing: look at the base first.

    The means are gathered in one pass with all maps as they are, of relations as
    :class:`~foveate.explain.trust.means.MeanMap` says; then follows a pass for each place and one for all together. The
    intervals of the places hold all at once, so that many places do not make a verdict by chance. The network is in
    evaluation mode meanwhile and afterwards as it was.

    Args:
        network: With attention, attached, its own, or of a library that foveate knows.
        batches: Images as the network takes them, and what is asked about each; gone through several times.
        score: The measure of one image, from 0 to 1; whether its class is right.
        measure: What it is called.
        mean_over: Inputs over which the means are taken, such as the training images; the same images, if ``None``.
        margin: Which change of the measure counts as none.
        each: Whether places are also replaced one at a time.

    Raises:
        FoveateError: If the network has no attention whose maps can be seen, images differ in size where maps then do,
            or the batches can be gone through only once.
        OptionError: If images and targets do not pair.

    Example:
        >>> import torch
        >>> from foveate import attach, hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "se")  # the identity: a constant as yet
        >>> found = ablate(model, [(torch.randn(4, 3, 32, 32), [0, 1, 2, 3])], margin=0.6)
        >>> found.together.effect.mean, found.together.verdict
        (0.0, 'a learned constant')
    """
    check_positive("margin", margin)
    batches_again(batches)
    means: dict[MapName, MeanMap] = {}

    def gather(heard: Heard) -> None:
        means.setdefault(heard.name, MeanMap()).add(heard)

    with at_rest(network) as quiet:
        if mean_over is not None:
            with hearing(quiet, gather):
                for batch in mean_over:
                    quiet(batch[0] if isinstance(batch, tuple | list) else batch)
        # maps are listened to in any case: where somebody looks, the same operations run as where maps are replaced
        with hearing(quiet, gather if mean_over is None else lambda _: None):
            base = _values(quiet, batches, score)
        if not means:
            raise FoveateError("no attention ran: all attachments are disabled, or there was no image")

        places = list(dict.fromkeys(name.place for name in means)) if each else []

        def replaced(names: tuple[MapName, ...], together: int = 1) -> Replaced:
            with replaced_maps(quiet, means, names):
                values = _values(quiet, batches, score)
            change = paired(values, base, together=together)
            shared = any(means[name].shared for name in names)
            return Replaced(names, change, _verdict(change, margin), shared, tuple(values))

        together = replaced(tuple(means))
        if len(places) == 1:
            separate = [together]
        else:
            parts = [tuple(name for name in means if name.place == place) for place in places]
            separate = [replaced(names, len(places)) for names in parts]
        return Ablation(measure, margin, effect(base), tuple(separate), together, tuple(unseen(quiet)))


def _verdict(change: Effect, margin: float) -> Verdict:
    if change.within(margin):
        return "a learned constant"
    if not change.apart:
        return "undecided"
    return "depends on its input" if change.mean < 0 else "better as a constant"


def _values(network: nn.Module, batches: Iterable[tuple[Tensor, Sequence[Any]]], score: Score) -> list[float]:
    values: list[float] = []
    for images, targets in batches:
        as_many(images, targets)
        values += [float(score(said, target)) for said, target in zip(answers(network, images), targets, strict=True)]
    return values


def _place(one: Replaced) -> str:
    return one.names[0].place or "the network itself"
