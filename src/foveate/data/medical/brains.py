"""Synthetic subjects: deformed, differently lit copies of one averaged brain, none of them a person.

The brain is ICBM's MNI152 template as nilearn ships it (Fonov et al. 2009, https://doi.org/10.1016/S1053-8119(09)70884-5;
copyright 1993-2009 Louis Collins, McConnell Brain Imaging Centre, McGill University, free to use and change with this
notice).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from foveate.data.chance import between, generator, whole
from foveate.data.medical.cases import Case, Shelf
from foveate.data.medical.data import Cases, Medical, Task, fingerprint_of
from foveate.data.medical.report import MedicalReport
from foveate.data.medical.scans import as_picture, imported
from foveate.data.medical.sides import SPLITS
from foveate.errors import check_at_least, check_choice

TISSUES = ("background", "grey matter", "white matter", "other tissue")
LABELS = ("no lesion", "lesion")
MM = 5  # a voxel's side
SIDES = (40, 48, 40)
SUBJECTS = {"train": 12, "validation": 5, "test": 5}
LABELLED = {"train": 24, "validation": 8, "test": 8}
PLANES = (15, 18, 21, 24, 27, 30)
LESION = (21, 23)  # slices that show every lesion


def synthetic_brains(
    *, task: Task = "segmentation", dimensions: int = 2, subjects: dict[str, int] | None = None, seed: int = 0
) -> Medical:
    """Synthetic subjects made from nilearn's MNI152 brain: T1 in, tissue out, or whether a synthetic lesion is there.

    Every subject is the averaged brain under a smooth deformation of its own, with another contrast, uneven light and
    noise: a function of seed and subject. In classification every second subject has a bright ball in its white matter.
    Nothing about people can be learned from them: they show that a training runs, and what it costs.

    Args:
        task: Tissue masks, or classes of subjects.
        dimensions: 3 for volumes of 40×48×40 voxels of 5 mm, 2 for axial slices of them.
        subjects: How many, by split.
        seed: Other subjects.

    Raises:
        OptionError: If an option's value cannot work.
        MissingExtraError: If nilearn is not installed.
    """
    check_choice("task", task, ("segmentation", "classification"))
    check_choice("dimensions", dimensions, (2, 3))
    check_at_least("seed", seed, 0)
    wanted = subjects or (SUBJECTS if task == "segmentation" else LABELLED)
    shelf, cases, splits, people = Shelf(), list[Case](), list[str](), list[str]()
    for split in SPLITS:
        for _ in range(wanted[split]):
            number = len(set(people))
            name = f"synthetic-{number:03d}"
            label = number % 2 if task == "classification" else None
            image, tissue = subject(number, seed=seed, lesion=label == 1)
            own = _cases(name, label, image, tissue, dimensions, shelf)
            cases += own
            splits += [split] * len(own)
            people += [name] * len(own)
    classes = TISSUES if task == "segmentation" else LABELS
    members = {split: [n for n, its in enumerate(splits) if its == split] for split in SPLITS}
    made = {
        split: Cases(shelf, [cases[n] for n in ones], [people[n] for n in ones], [int(people[n][-3:]) for n in ones])
        for split, ones in members.items()
    }
    counts = {split: {"cases": len(ones), "patients": wanted[split]} for split, ones in members.items()}
    name = "synthetic brains (deformed copies of MNI152, no persons)"
    report = MedicalReport(
        name=name,
        task=task,
        shape="×".join(map(str, cases[0].shape)),
        counts=counts,
        split="as made: other subjects in each",
        whose=f"{sum(wanted.values())} synthetic subjects, all from one averaged brain",
    )
    settings = f"synthetic_brains {task} {dimensions} {seed}"
    return Medical(
        name, task, classes, dimensions, **made, unit="mm", report=report, official=(),
        fingerprint=fingerprint_of(settings, cases, splits),
    )  # fmt: skip


def subject(
    number: int, *, seed: int = 0, lesion: bool = False
) -> tuple[Float[Tensor, "1 x y z"], Int64[Tensor, "x y z"]]:
    """One synthetic subject: its T1 image, from 0 to about 1, and its tissues."""
    draw = generator("synthetic brain", seed, number)
    grid = _deformed(draw)
    t1, tissue = _template()
    warped: Tensor = F.grid_sample(t1[None], grid, align_corners=False)[0]
    shares = F.grid_sample(tissue[None], grid, align_corners=False)[0]
    outside = shares.sum(0) < 0.5
    mask = (shares.argmax(0) + 1).masked_fill(outside, 0)
    image = warped.clamp(0, 1) ** between(0.7, 1.4, draw)
    if lesion:
        image = image * (1 + 0.9 * _ball(mask == TISSUES.index("white matter"), draw))
    image = image * torch.exp(0.25 * _smooth(1, 3, draw)[0])
    noise = 0.03 * torch.randn(2, *SIDES, generator=draw)
    return ((image[0] + noise[0]).square() + noise[1].square()).sqrt()[None], mask  # Rice's noise, as magnitudes have


@lru_cache(maxsize=1)
def _template() -> tuple[Tensor, Tensor]:
    """T1 and the shares of grey, white and other tissue, at the sample's size."""
    datasets: Any = imported("nilearn.datasets")
    import numpy as np

    loaded = (
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    )
    t1, grey, white = (torch.from_numpy(np.asarray(one.get_fdata(dtype=np.float32)))[None, None] for one in loaded)
    inside = (t1 > 0.1).float()
    other = (inside - grey - white).clamp(0, 1)
    stacked = torch.cat([t1, grey * inside, white * inside, other], 1)
    extent = inside[0, 0].nonzero()
    middle = (extent.min(0).values + extent.max(0).values) // 2
    half = [side * MM // 2 for side in SIDES]
    # one number a side: pads where the box leaves the template, cuts where it is smaller
    pads = [
        amount
        for axis in (2, 1, 0)
        for amount in (
            half[axis] - int(middle[axis]),
            int(middle[axis]) + half[axis] - stacked.shape[2 + axis],
        )
    ]
    small = F.avg_pool3d(F.pad(stacked, pads), MM)[0]
    return small[:1] / small[:1].max(), small[1:]


def _deformed(draw: torch.Generator) -> Tensor:
    """Where each voxel comes from: turned, scaled and bent at random, in ``grid_sample``'s coordinates."""
    turns = [between(-0.12, 0.12, draw) for _ in range(3)]
    matrix = torch.eye(3)
    for axis, angle in enumerate(turns):
        a, b = [one for one in range(3) if one != axis]
        turn = torch.eye(3)
        cos, sin = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        turn[a, a], turn[b, b], turn[a, b], turn[b, a] = cos, cos, -sin, sin
        matrix = matrix @ turn
    matrix = matrix * torch.tensor([between(0.95, 1.1, draw) for _ in range(3)])
    affine = torch.cat([matrix, torch.zeros(3, 1)], 1)
    grid = F.affine_grid(affine[None], [1, 1, *SIDES], align_corners=False)
    return grid + 0.06 * _smooth(3, 5, draw).movedim(0, -1)


def _smooth(channels: int, points: int, draw: torch.Generator) -> Float[Tensor, "1 c x y z"]:
    """Random fields without sharp changes, of deviation about 0.5."""
    coarse = torch.randn(1, channels, points, points, points, generator=draw)
    return F.interpolate(coarse, SIDES, mode="trilinear", align_corners=False)[0]


def _ball(where: Tensor, draw: torch.Generator) -> Float[Tensor, "x y z"]:
    """A ball with a soft edge around some white matter in the slice in the middle."""
    inside = where.nonzero()
    inside = inside[inside[:, 2] == LESION[0] + 1]
    centre = inside[whole(len(inside), draw)]
    radius = between(3.0, 4.5, draw)
    axes = torch.meshgrid(*(torch.arange(side) for side in SIDES), indexing="ij")
    distance = sum((axis - int(at)).float().square() for axis, at in zip(axes, centre, strict=True)) ** 0.5
    return torch.sigmoid(2 * (radius - distance))


def _cases(name: str, label: int | None, image: Tensor, tissue: Tensor, dimensions: int, shelf: Shelf) -> list[Case]:
    """The cases of one subject, put on the shelf."""
    place = Path(name)
    shelf.keep(place, image, tissue.to(torch.uint8) if label is None else None)
    digest = hashlib.sha256(image.numpy().tobytes()).hexdigest()
    whole_one = Case(
        name=name, file=name, image=place, mask=None, plane=None, subject=name, patient=None, content=digest,
        digest=digest, shape=tuple(image.shape), spacing=(float(MM),) * 3, split=None, foreground=True, label=label,
    )  # fmt: skip
    if dimensions == 3:
        return [whole_one]
    shape = tuple(as_picture(image[..., 0]).shape)
    return [
        replace(whole_one, name=f"{name}#{plane}", plane=plane, shape=shape, spacing=(float(MM),) * 2)
        for plane in (PLANES if label is None else LESION)
    ]
