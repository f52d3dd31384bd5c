"""An album of a trained network: how each kind of work gives it pictures, and the samples that it was tested on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from foveate.data.boxes.detection import Boxes
from foveate.data.decode import UnusableImageError, stored_frame
from foveate.errors import DataError, OptionError, check_at_least
from foveate.explain.album import Frame, Images, Origin, Prepare, Square, Subject, Thing, Truth
from foveate.explain.album.files import arranged, find
from foveate.explain.album.seen import affordable, evenly
from foveate.train.assembly import Assembly, described, load_model
from foveate.train.kinds.detection import sides_in
from foveate.train.pixels import Normalise

LONGEST = 1333  # side of what a detector is given, in pixels
VISIBLE = 0.02  # of a side
NOTHING = "nothing"  # what detectors call 0


def trained(checkpoint: str | Path, sizes: Sequence[tuple[int, int]] = ()) -> tuple[Subject, Assembly]:
    """A trained network from the folder of its run, to look at.

    Args:
        checkpoint: The folder.
        sizes: Heights and widths of the images that it will be given: a detector sees them whole, in one frame.

    Raises:
        DataError: If there is no trained network.
        OptionError: If it is one of scans.
    """
    network, assembly = load_model(checkpoint)
    if assembly.work == "medical":
        raise OptionError(
            "an album shows photographs, and this network takes scans: `foveate predict` shows what its attention does"
        )
    names = (NOTHING, *assembly.classes) if assembly.work == "detection" else assembly.classes
    prepare = _prepare(network, assembly, sizes)
    origin = Origin(
        _named(assembly),
        _whence(Path(checkpoint)),
        notes=padding(network, prepare.size) if isinstance(prepare, Frame) else (),
    )
    return Subject(network, origin, names, prepare), assembly


def sizes_of(paths: Iterable[str | Path]) -> list[tuple[int, int]]:
    """Heights and widths of pictures, from their headers; those that cannot be read are left out."""
    found: list[tuple[int, int]] = []
    for *_, path in find(paths):
        try:
            height, width, turn = stored_frame(path)
        except UnusableImageError:
            continue
        found.append((width, height) if turn >= 5 else (height, width))  # EXIF's 5 to 8 lie on their side
    return found


def samples_of(
    checkpoint: str | Path,
    data: str | Path | None,
    *,
    most: int,
    measured: int,
    on_image: Callable[[int, int], None] | None = None,
) -> tuple[Subject, Images]:
    """A trained network, and test samples with what is on them: those of its run, or of other data.

    Args:
        checkpoint: The folder of the run.
        data: Where the samples are; those of the run if ``None``.
        most: How many are shown.
        measured: How many are measured, those shown among them.
        on_image: Called after each with how many were read, and how many will be.

    Raises:
        DataError: If the samples cannot be read, or are of other classes.
    """
    check_at_least("measured", measured, 1)
    assembly = described(checkpoint)
    plan = _json(Path(checkpoint) / "run.json")
    place = plan.get("data") if data is None else data
    samples = assembly.kind.data(None if place is None else Path(place), assembly.chosen(), seed=plan.get("seed", 0))
    if tuple(samples.classes) != assembly.classes:
        raise DataError(
            f"the network tells {', '.join(assembly.classes)} apart, and the samples are of "
            f"{', '.join(samples.classes)}: give samples of the same classes with --data"
        )
    test: Any = samples.test
    order = sorted(range(len(test)), key=lambda number: (_name(test, number), number))
    subject, _ = trained(checkpoint, getattr(test, "sizes", ()))
    some, target = test[order[0]]
    chosen = evenly(order, max(most, affordable(subject.prepare("", some, _truth(target)), measured)))
    seen: list[Any] = []
    for number in chosen:
        pixels, target = test[number]
        seen.append(subject.prepare(_name(test, number), pixels, _truth(target)))
        if on_image is not None:
            on_image(len(seen), len(chosen))
    same = data is None and plan.get("fingerprint") in (None, samples.fingerprint)
    source = f"test samples of {samples.name}" + ("" if same or data is not None else ", which have changed since")
    return subject, arranged(seen, most, there=len(test), source=source)


def frame_for(detector: Any, size: tuple[int, int]) -> Frame:
    """A frame of at least this size that a detector adds nothing to, so that its maps cover the frame and no more.

    Detectors add the mean colour on the right and below until their layers fit. The frame is filled up so far and with
    that, and the network computes what it would have computed. Where no frame can be, the size stays.

    Args:
        detector: One of torchvision's making.
        size: Height and width of the largest picture.

    Example:
        >>> from foveate.hosts.detectors import build_detector
        >>> network, _ = build_detector("foveate/fcos_resnet18_fpn", classes=4, size=96)
        >>> frame_for(network, (48, 60)).size  # twice as large 96 by 120, of which the layers make 96 by 128
        (48, 64)
    """
    fill = tuple(round(255 * mean) for mean in detector.transform.image_mean)
    inner, outer = sides_in(detector, size)
    full = [round(side * ahead / behind) for side, ahead, behind in zip(size, outer, inner, strict=True)]
    nearby = [[side, side + 1, side - 1] for side in full]
    for height in nearby[0]:
        for width in nearby[1]:
            if height >= size[0] and width >= size[1] and sides_in(detector, (height, width)) == (outer, outer):
                return Frame((height, width), _shares, fill)
    return Frame(size, _shares, fill)


def padding(detector: nn.Module, size: tuple[int, int]) -> tuple[str, ...]:
    """What a detector adds to a frame of this height and width all the same, as a sentence, where it can be seen."""
    sizes = zip(*sides_in(detector, size), strict=True)
    most = max(1 - inner / outer for inner, outer in sizes)
    if most <= VISIBLE:
        return ()
    return (
        f"This detector adds {most:.0%} of nothing on the right or below, so that its layers fit: maps are drawn over "
        "the images by as much too far to the left and up.",
    )


def _prepare(network: nn.Module, assembly: Assembly, sizes: Sequence[tuple[int, int]]) -> Prepare:
    options = assembly.chosen()
    if assembly.work == "detection":
        height, width = (max((size[side] for size in sizes), default=options.size or 800) for side in (0, 1))
        scale = min(1.0, LONGEST / max(height, width))
        return frame_for(network, (max(1, round(height * scale)), max(1, round(width * scale))))
    if assembly.work == "segmentation":
        return Square((options.crop, options.crop), Normalise.usual(3))
    return Square((options.size, options.size), Normalise.usual(assembly.channels), assembly.channels)


def _shares(pixels: Tensor) -> Tensor:
    return pixels.float() / 255


def _truth(target: Any) -> Truth:
    """What a sample says is on its image, as the network numbers it."""
    if isinstance(target, Boxes):
        return tuple(
            Thing(box, int(label) + 1)
            for box, label, crowd in zip(target.boxes, target.labels, target.crowd, strict=True)
            if not crowd
        )
    if isinstance(target, Tensor) and target.ndim == 2:
        return target.long()
    return int(target)


def _name(samples: Any, number: int) -> str:
    names = getattr(samples, "names", ())
    return str(names[number]) if number < len(names) else f"test/{number:05d}"


def _named(assembly: Assembly) -> str:
    attention = f" with {assembly.attention}" if assembly.attention else ""
    return f"{assembly.host}{attention}"


def _whence(folder: Path) -> str:
    """How it was trained, as far as the folder tells."""
    plan, report = _json(folder / "run.json"), _json(folder / "report.json")
    epochs = plan.get("recipe", {}).get("epochs")
    parts = [f"trained by foveate, the run in {folder.resolve().name}"]
    if epochs:
        data = report.get("data_report", {}).get("name") if isinstance(report.get("data_report"), dict) else None
        best = report.get("best", {}).get("epoch") if isinstance(report.get("best"), dict) else None
        kept = f", of which the weights after epoch {best:.0f} are kept" if best and best < epochs else ""
        parts.append(f"{epochs} epochs" + (f" on {data}" if data else "") + kept)
    if plan.get("weights"):
        parts.append(f"begun with the weights '{Path(str(plan['weights'])).name}'")
    return ", ".join(parts)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


__all__ = ["frame_for", "padding", "samples_of", "sizes_of", "trained"]
