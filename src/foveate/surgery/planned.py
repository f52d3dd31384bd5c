"""What a plan holds, and how it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from foveate.measure import Conditions, Prediction
from foveate.surgery.attached import AttachedAttention


@dataclass(frozen=True)
class PlannedPlace:
    """One place and what the attention there would add.

    What stands in a convolution's place adds what it has and does beyond that convolution, which may be less than
    nothing. The convolution's own parameters stay in the network, at rest.

    Attributes:
        path: The module at which it would act.
        side: What of the module it would act on: ``"output"``, ``"input"`` or ``"shortcut"``; ``"instead"`` for what
            would stand in its place.
        channels: Channels of the feature map.
        size: Height and width of the feature map for the example watched; the length of a signal; depth, height and
            width of a volume.
        stage: Which of the network's resolutions it has, counted from 1 where its stem ends, which is 0.
        parameters: Trainable parameters added.
        macs: Multiply-accumulates added, for one image, of convolutions and matrix products.
        bytes: Bytes that its operations read and write, for one image.
        pairs: Bytes that its matrices of all pairs of positions take for one image, in the features' type; 0 for a
            gate.
        latency: The median duration for a batch, in seconds; ``None`` where it was not measured.
        predicted: What it would take for a batch; ``None`` where that was not asked for.
    """

    path: str
    side: str
    channels: int
    size: tuple[int, ...]
    stage: int
    parameters: int
    macs: int
    bytes: int
    pairs: int
    latency: float | None = None
    predicted: Prediction | None = None

    def __str__(self) -> str:
        """The path, and what at the module is meant if it is not the output."""
        return self.path if self.side in ("output", "instead") else f"{self.path} ({self.side})"


@dataclass(frozen=True)
class Plan:
    """All places of an attachment, and their sums.

    Attributes:
        attention: The mechanism with its options.
        places: The places, in the order in which the network comes to them.
        host_parameters: Parameters of the network as it is, convolutions at rest included.
        present: Attention that the network has already, its own or attached.
        warnings: What will hurt, in sentences.
        batch: For how many images at once latencies and predictions are.
        conditions: Under which conditions latencies, or the machine that they are predicted for, were measured;
            ``None`` if they were not.
    """

    attention: str
    places: tuple[PlannedPlace, ...]
    host_parameters: int
    present: tuple[AttachedAttention, ...] = ()
    warnings: tuple[str, ...] = ()
    batch: int = 1
    conditions: Conditions | None = None

    @property
    def parameters(self) -> int:
        """Trainable parameters added."""
        return sum(place.parameters for place in self.places)

    @property
    def macs(self) -> int:
        """Multiply-accumulates added, for one image."""
        return sum(place.macs for place in self.places)

    @property
    def bytes(self) -> int:
        """Bytes read and written by what is added, for one image."""
        return sum(place.bytes for place in self.places)

    @property
    def latency(self) -> float | None:
        """The sum of the medians, in seconds; each was measured alone, so the whole may differ."""
        measured = [place.latency for place in self.places if place.latency is not None]
        return sum(measured) if measured else None

    @property
    def predicted(self) -> Prediction | None:
        """What all places would take together: they run one after the other, and keep what training needs."""
        told = [place.predicted for place in self.places if place.predicted is not None]
        if not told:
            return None
        kept = sum(one.kept for one in told)
        return Prediction(
            seconds=sum(one.seconds for one in told),
            memory=max(one.memory for one in told),
            kept=kept,
            training=kept + max(one.training - one.kept for one in told),
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        predicted = self.predicted
        return {
            "attention": self.attention,
            "places": [asdict(place) for place in self.places],
            "host_parameters": self.host_parameters,
            "parameters": self.parameters,
            "macs": self.macs,
            "bytes": self.bytes,
            "latency": self.latency,
            "batch": self.batch,
            "predicted": None if predicted is None else predicted.as_dict(),
            "present": [{"place": one.place, "attention": one.mechanism, "note": one.note} for one in self.present],
            "warnings": list(self.warnings),
            "conditions": None if self.conditions is None else self.conditions.as_dict(),
        }

    def __str__(self) -> str:
        """A table for reading."""
        width = max([len("place"), *(len(str(place)) for place in self.places)])
        head = f"{'place':<{width}}  stage  channels  {'map':<11}  parameters         MACs       bytes"
        lines = [head + _cells("latency", "predicted", "memory", "training", of=(self.latency, self.predicted))]
        for place in self.places:
            shape = "×".join(map(str, place.size))
            line = (
                f"{place!s:<{width}}  {place.stage:>5}  {place.channels:>8}  {shape:<11}  {place.parameters:>10,}"
                f"  {place.macs:>11,}  {size_in_words(place.bytes):>10}"
            )
            lines.append(line + _cells(*_told(place.latency, place.predicted), of=(place.latency, place.predicted)))
        lines.append(self._total())
        kinds: dict[str, int] = {}
        for one in self.present:
            kinds[one.mechanism] = kinds.get(one.mechanism, 0) + 1
        lines += [f"there already: {count} × {name}" for name, count in kinds.items()]
        lines += [f"warning: {warning}" for warning in _folded(self.warnings)]
        return "\n".join(lines)

    def _total(self) -> str:
        share = self.parameters / max(1, self.host_parameters)
        places = "1 place" if len(self.places) == 1 else f"{len(self.places)} places"
        text = (
            f"{self.attention}: {places}, {self.parameters:,} parameters "
            f"({share:+.1%} of {self.host_parameters:,}), {self.macs:,} MACs, {size_in_words(self.bytes)} moved"
        )
        text += f", {self.latency * 1e3:.2f} ms" if self.latency is not None else ""
        if self.predicted is None:
            return text
        told = self.predicted
        images = "1 image" if self.batch == 1 else f"{self.batch} images"
        return text + (
            f"; predicted for {images}: {told.seconds * 1e3:.2f} ms, {size_in_words(told.memory)} at inference, "
            f"{size_in_words(told.training)} in training"
        )


def _told(latency: float | None, predicted: Prediction | None) -> tuple[str, str, str, str]:
    """Four cells of a line: what was timed, and what is predicted."""
    timed = "" if latency is None else f"{latency * 1e3:.2f} ms"
    if predicted is None:
        return timed, "", "", ""
    sizes = size_in_words(predicted.memory), size_in_words(predicted.training)
    return (timed, f"{predicted.seconds * 1e3:.2f} ms", *sizes)


def _cells(*texts: str, of: tuple[object, object]) -> str:
    """The cells of what is there, right-aligned."""
    there = texts[: of[0] is not None] + (texts[1:] if of[1] is not None else ())
    return "".join(f"  {text:>9}" for text in there)


def _folded(warnings: Iterable[str]) -> list[str]:
    """One line for all that say the same of different places, which they begin with in quotes."""
    said: dict[str, list[str]] = {}
    for warning in warnings:
        name, quote, rest = warning.removeprefix("'").partition("'") if warning.startswith("'") else ("", "", warning)
        said.setdefault(quote + rest, []).append(name)
    lines = list[str]()
    for rest, names in said.items():
        first = f"'{names[0]}" if names[0] else ""
        more = f" ({len(names) - 1} more alike)" if len(names) > 1 else ""
        lines.append(f"{first}{rest}{more}")
    return lines


def size_in_words(count: float) -> str:
    """Bytes as a person reads them.

    Example:
        >>> size_in_words(1_234_567)
        '1.2 MB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return ""
