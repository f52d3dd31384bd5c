"""Medical images: segmentation and classification, flat and in volumes, with MONAI's networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from foveate import hosts
from foveate.attention import maps_of
from foveate.data.decode import UnusableImageError
from foveate.data.medical.brains import synthetic_brains
from foveate.data.medical.folder import Medical, subject_folder
from foveate.data.medical.nifti import nifti_bytes
from foveate.data.medical.scans import PICTURES, VOLUMES, Scan, as_picture, as_plane, read_scan
from foveate.errors import OptionError
from foveate.hosts.medical_networks import build_medical, known
from foveate.registry import Spec, get
from foveate.surgery import attached
from foveate.surgery.put import usual_place
from foveate.train.drawing import captioned, enlarged, rgb, with_mask
from foveate.train.kinds.kind import Data, Kind, Said
from foveate.train.looking import Look
from foveate.train.medical import MedicalClassification, MedicalSegmentation
from foveate.train.medical.changes import normalised, resized
from foveate.train.medical.windows import said_of
from foveate.train.recipe import Recipe
from foveate.train.task import Task

UNITS = "**.adn.A"
LARGEST = {2: 128, 3: 64}
STEP = {"segmentation": 16, "classification": 32}


@dataclass(frozen=True)
class MedicalOptions:
    """What can be chosen; see :class:`~foveate.train.medical.MedicalSegmentation`.

    Attributes:
        task: Masks or classes of patients; by default masks, if there are any.
        dimensions: 2 or 3; by what the images are, if ``None``. 2 cuts volumes into axial slices.
        size: A side of the windows to learn from, or of whole images in classification; by the images, if ``None``.
        window: The longest side of the windows in which images are judged; twice ``size``, if ``None``.
        binary: Whether every number above 0 in a mask is one class.
        on_error: Whether images that cannot be used are left out (``"skip"``) or stop everything (``"stop"``).
        weighted: Whether rare classes weigh more; by default in classification, as windows are around foreground.
    """

    task: Literal["segmentation", "classification"] | None = None
    dimensions: int | None = None
    size: int | None = None
    window: int | None = None
    binary: bool = False
    on_error: Literal["skip", "stop"] = "skip"
    foreground: float = 0.5
    weighted: bool | None = None
    mirror: bool = True


class _Medical(Kind[MedicalOptions]):
    name: ClassVar[str] = "medical"
    host: ClassVar[str] = "monai/unet"
    options: ClassVar[type[Any]] = MedicalOptions
    suffixes: ClassVar[tuple[str, ...]] = (*PICTURES, *VOLUMES, ".dcm")
    usual: ClassVar[Mapping[str, Any]] = {
        "epochs": 15, "batch_size": 4, "learning_rate": 0.005, "optimizer": "adamw", "weight_decay": 1e-2,
        "channels_last": False,
    }  # fmt: skip

    def usual_host(self, options: MedicalOptions) -> str:
        return "monai/densenet121" if options.task == "classification" else self.host

    def usual_place(self, host: str, attention: Spec) -> str | None:
        """After each activation of MONAI's U-Net: its last residual unit makes the logits, which are no features."""
        acts = get(attention.name).protocol == "attention" and usual_place(attention) == "residual"
        return UNITS if acts and host.startswith("monai/unet") else None

    def data(self, path: Path | None, options: MedicalOptions, *, seed: int) -> Medical:
        if path is None:
            task, dimensions = options.task or "segmentation", options.dimensions or 2
            return synthetic_brains(task=task, dimensions=dimensions, seed=seed)
        return subject_folder(
            path, task=options.task, dimensions=options.dimensions, binary=options.binary,
            on_error=options.on_error, seed=seed,
        )  # fmt: skip

    def settled(self, data: Data, options: MedicalOptions, host: str) -> MedicalOptions:  # noqa: ARG002
        assert isinstance(data, Medical)  # noqa: S101
        size = options.size
        if size is None:
            step = STEP[data.task]
            side = -(-max(data.train[0][0].shape[1:]) // step) * step
            size = min(max(side, 32), LARGEST[data.dimensions])
        window = 2 * size if options.window is None else options.window
        return replace(options, task=data.task, dimensions=data.dimensions, size=size, window=window)

    def network(
        self, name: str, classes: Sequence[str], channels: int, weights: str | Path | None, options: MedicalOptions
    ) -> tuple[nn.Module, tuple[str, ...]]:
        task, dimensions, size = _settled(options)
        if not name.startswith("monai/") and task == "classification" and dimensions == 2:
            return hosts.build_with_head(name, classes=len(classes), in_channels=channels, weights=weights)
        step = known(name).step
        if size % step:
            near = f"{max(step, size // step * step)} and {-(-size // step) * step}"
            raise OptionError(f"{name} takes sides divisible by {step}, and size is {size}: the nearest are {near}")
        return build_medical(
            name, task=task, classes=len(classes), channels=channels, dimensions=dimensions, weights=weights
        )

    def channels(self, data: Data, weights: str | Path | None) -> int:  # noqa: ARG002
        return int(data.train[0][0].shape[0])

    def example(self, channels: int, options: MedicalOptions) -> Tensor:
        _, dimensions, size = _settled(options)
        return torch.zeros(1, channels, *(size,) * dimensions)

    def task(
        self,
        network: nn.Module,
        data: Data,
        recipe: Recipe,
        options: MedicalOptions,
        *,
        seed: int,
        new: tuple[str, ...],
    ) -> Task:
        task, _, size = _settled(options)
        shared: dict[str, Any] = {
            "classes": data.classes,
            "size": size,
            "seed": seed,
            "new": new,
            "mirror": options.mirror,
        }
        samples: tuple[Any, Any] = (data.train, data.validation)
        if task == "classification":
            return MedicalClassification(network, *samples, recipe, **shared, weighted=options.weighted is not False)
        return MedicalSegmentation(
            network,
            *samples,
            recipe,
            **shared,
            foreground=options.foreground,
            weighted=bool(options.weighted),
            window=options.window,
            unit=data.unit if isinstance(data, Medical) else "mm",
        )

    def read(self, path: Path, channels: int) -> Scan:
        scan = read_scan(path)
        if scan.values.shape[0] == 1 and channels == 3:
            return replace(scan, values=scan.values.expand(3, *scan.values.shape[1:]))
        if scan.values.shape[0] != channels:
            raise UnusableImageError(f"has {scan.values.shape[0]} channels, and the network takes {channels}")
        return scan

    def scanned(self, sample: Any) -> Scan:
        image, target = sample
        return Scan(image, target.spacing, None, None, "")

    def say(self, network: nn.Module, pixels: Any, classes: Sequence[str], options: MedicalOptions) -> Said:
        scan: Scan = pixels
        task, dimensions, size = _settled(options)
        if dimensions == 3 and scan.dimensions == 2:
            raise UnusableImageError("is flat, and the network takes volumes")
        with torch.no_grad():
            if task == "classification":
                return _class_of(network, scan, classes, dimensions, size)
            return _mask_of(network, scan, classes, dimensions, options.window or 2 * size)


def _settled(options: MedicalOptions) -> tuple[str, int, int]:
    task, dimensions, size = options.task, options.dimensions, options.size
    assert task is not None and dimensions is not None and size is not None  # noqa: S101
    return task, dimensions, size


def _pieces(scan: Scan, dimensions: int) -> list[Tensor]:
    """What the network takes one after the other: the image, or the slices of a volume."""
    if scan.dimensions == dimensions:
        return [scan.values]
    return [as_picture(plane) for plane in scan.values.unbind(-1)]


def _mask_of(network: nn.Module, scan: Scan, classes: Sequence[str], dimensions: int, window: int) -> Said:
    attention = bool(attached(network)) and bool(maps_of(network))
    masks, changed = list[Tensor](), list[tuple[str, Tensor] | None]()
    for piece in _pieces(scan, dimensions):
        logits, changes = said_of(network, normalised(piece)[None], window, attention=attention)
        masks.append(logits[0].argmax(0).cpu())
        changed.append(list(changes.items())[-1] if changes else None)
    sliced = scan.dimensions > dimensions
    mask = torch.stack([as_plane(one) for one in masks], -1) if sliced else masks[0]
    middle = _middle(mask)
    look = None
    if (last := changed[middle if sliced else 0]) is not None:
        place, heat = last
        look = Look(place, as_picture(heat[..., middle]) if heat.ndim == 3 else heat, diverging=True)
    seen = _seen(scan, middle)
    plane = as_picture(mask[..., middle]) if mask.ndim == 3 else mask
    voxel = 1.0
    for side in scan.spacing or ():
        voxel *= side
    unit = ("mm²" if scan.dimensions == 2 else "mm³") if scan.spacing else "pixels"
    content: dict[str, Any] = {
        "unit": unit, "sizes": {name: float((mask == n).sum()) * voxel for n, name in enumerate(classes) if n},
    }  # fmt: skip
    if mask.ndim == 3:
        content["slice"] = middle
    files = {"mask.nii.gz": nifti_bytes(mask, scan)} if scan.affine is not None else {}
    return Said(content, with_mask(seen, plane), plane.to(torch.uint8), seen=seen, look=look, files=files)


def _class_of(network: nn.Module, scan: Scan, classes: Sequence[str], dimensions: int, size: int) -> Said:
    pieces = torch.stack([resized(normalised(one), (size,) * dimensions) for one in _pieces(scan, dimensions)])
    shares = torch.cat([network(one[None]).float().softmax(1) for one in pieces]).mean(0)
    best = int(shares.argmax())
    seen = _seen(scan, scan.values.shape[-1] // 2)
    content = {
        "class": classes[best], "probability": float(shares[best]),
        "probabilities": {name: float(one) for name, one in zip(classes, shares, strict=True)},
    }  # fmt: skip
    return Said(content, captioned(seen, f"{classes[best]} {float(shares[best]):.0%}"), seen=enlarged(seen))


def _middle(mask: Tensor) -> int:
    """The slice in the middle of what was found, or of the volume."""
    if mask.ndim == 2:
        return 0
    inside = (mask > 0).flatten(0, 1).any(0).nonzero()
    return int(inside.float().mean().round()) if len(inside) else mask.shape[-1] // 2


def _seen(scan: Scan, plane: int) -> Tensor:
    """A slice as bytes, from the 1st to the 99th percentile."""
    values = as_picture(scan.values[..., plane]) if scan.dimensions == 3 else scan.values
    flat = values.flatten()[:: max(1, values.numel() // 100_000)]
    low, high = torch.quantile(flat, torch.tensor([0.01, 0.99])).tolist()
    return rgb(((values - low) / max(high - low, 1e-6) * 255).round().clamp(0, 255).to(torch.uint8)).contiguous()


KIND = _Medical()
