"""Medical images in three splits, no patient in two of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from foveate.data.decode import require_pillow
from foveate.data.layout import check_folder
from foveate.data.medical.cases import Case, read_cases
from foveate.data.medical.data import Cases, Medical, Target, Task, fingerprint_of
from foveate.data.medical.report import MedicalReport
from foveate.data.medical.sides import SPLITS, patients, sides_of
from foveate.data.medical.subjects import list_subjects, stem
from foveate.data.report import LeftOut, enumerated, shown
from foveate.errors import DataError, check_at_least, check_bool, check_choice

FEW = 10


def subject_folder(
    path: str | os.PathLike[str],
    *,
    task: Task | None = None,
    dimensions: int | None = None,
    binary: bool = False,
    on_error: Literal["skip", "stop"] = "skip",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Medical:
    """Read a folder of medical images: NIfTI, DICOM and pictures, flat or volumes, and keep every patient on one side.

    Two layouts are read, each also inside folders ``train``, ``val`` and ``test``::

        p01/image.nii.gz   p01/mask.nii.gz      a folder a subject; DICOM slices in one are one series, and words beside
        p02/image/*.dcm    p02/mask.nii.gz      `image` and `mask` pair several: `image_1`, `mask_1`
        images/a.png       masks/a.png          pairs by name; a folder in images/ is a DICOM series

    Tables at the top say more: ``subjects.csv`` (file,subject), ``labels.csv`` (subject,label) for classification,
    ``splits.csv`` (subject,split or file,split), ``classes.csv`` (id,name) for the numbers in masks. Without
    ``subjects.csv`` a subject is the folder, the ``sub-XX`` of a BIDS name, or the PatientID of a DICOM file. Whatever
    shares an identifier or has the same content is of one patient. Where nothing says whose an image is, each is its
    own patient, and the report says so.

    Without folders or a table for splits the patients are dealt by ``seed``: 15 % to validation, 15 % to test.

    Args:
        path: The folder.
        task: Masks or classes; by default masks if there are any.
        dimensions: 2 cuts volumes into axial slices; 3 needs volumes. By default what the files have.
        binary: Whether every number above 0 in a mask is one class, as in masks of instances.
        on_error: Whether to ``"skip"`` images that cannot be used, or to ``"stop"`` at the first.
        seed: Which patients go to which split.
        progress: Called after each image with the count of those done and of all.

    Raises:
        DataError: If a patient is on two sides, there are too few patients, or the folder cannot be understood.
        OptionError: If an option's value cannot work.
        MissingExtraError: If a package that reads a file is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     for number in range(6):
        ...         for kind in ("image", "mask"):
        ...             subject = Path(folder, f"p{number}")
        ...             subject.mkdir(exist_ok=True)
        ...             Image.new("L", (16, 16), number + 1 if kind == "image" else 1).save(subject / f"{kind}.png")
        ...     data = subject_folder(folder)
        >>> data.task, data.classes, len(data.train), data.train[0][0].shape
        ('segmentation', ('background', '1'), 4, torch.Size([1, 16, 16]))
    """
    check_choice("on_error", on_error, ("skip", "stop"))
    check_choice("task", task, (None, "segmentation", "classification"))
    check_choice("dimensions", dimensions, (None, 2, 3))
    check_bool("binary", binary)
    check_at_least("seed", seed, 0)
    require_pillow()
    root = Path(path)
    check_folder(root)
    listing = list_subjects(root)
    if task is None:
        task = "segmentation" if any(one.mask for one in listing.found) else "classification"
    if task == "classification" and not listing.labels:
        raise DataError(
            f"{shown(str(root))} has neither masks nor labels.csv (subject,label): there is nothing to learn"
        )
    skipped: list[LeftOut] = []

    def leave_out(name: str, reason: str) -> None:
        if on_error == "stop":
            raise DataError(f"{shown(name)} {reason}")
        skipped.append(LeftOut(shown(name), reason))

    asked = frozenset({0, *listing.classes}) if listing.classes and not binary else None
    reading = read_cases(
        listing.found, masks=task == "segmentation", dimensions=dimensions, binary=binary, known=asked,
        leave_out=leave_out, progress=progress,
    )  # fmt: skip
    cases = reading.cases
    if not cases:
        why = f", such as {skipped[0]}" if skipped else ""
        raise DataError(f"none of the {len(listing.found)} images in {shown(str(root))} can be used{why}")
    identifiers = [identifiers_of(case) for case in cases]
    if task == "classification":
        cases, identifiers, classes = labelled(cases, identifiers, listing.labels, leave_out)
    else:
        ids = reading.ids if asked is None else tuple(sorted(asked))
        classes = _classes(ids, listing.classes, binary)
        cases = [replace(case, numbers=ids) for case in cases]
    groups = patients(identifiers)
    splits, how = sides_of(cases, groups, identifiers, seed)
    given = {case.split for case in cases}
    people = {group: subject_of(case) for group, case in zip(reversed(groups), reversed(cases), strict=True)}
    title = shown(Path(os.path.abspath(root)).name)  # noqa: PTH100  # "." has a name, and a link keeps its own
    members = {split: [n for n, its in enumerate(splits) if its == split] for split in SPLITS}
    made = {
        split: Cases(
            reading.shelf, [cases[n] for n in ones], [people[groups[n]] for n in ones], [groups[n] for n in ones]
        )
        for split, ones in members.items()
    }
    counts = {
        split: counts_of([cases[n] for n in ones], [groups[n] for n in ones], classes)
        for split, ones in members.items()
    }
    report = MedicalReport(
        name=title,
        task=task,
        shape=shape_of([case.shape for case in cases]),
        counts=counts,
        split=how,
        whose=whose_are(cases, len(set(groups))),
        skipped=tuple(skipped),
        ignored=listing.ignored,
        conversions=dict(sorted(reading.changes.items())),
        warnings=tuple(_warnings(cases, groups, counts)),
    )
    settings = f"subject_folder {task} {classes} {binary} {reading.dimensions}"
    return Medical(
        name=title,
        task=task,
        classes=classes,
        dimensions=reading.dimensions,
        **made,
        unit="mm" if all(case.spacing for case in cases) else "pixels",
        fingerprint=fingerprint_of(settings, cases, splits),
        report=report,
        official=tuple(split for split in SPLITS[1:] if split in given and None not in given),
    )


def identifiers_of(case: Case) -> set[str]:
    """Everything that says whose a case is; its own name where nothing does."""
    found = {f"content {case.content[:12]}"}
    if case.subject is not None:
        found.add(f"subject {case.subject}")
    if case.patient is not None:
        found.add(f"PatientID {case.patient}")
    return found


def subject_of(case: Case) -> str:
    """Whom a case is of, for people."""
    return case.subject or case.patient or stem(Path(case.file))


def labelled(
    cases: Sequence[Case],
    identifiers: Sequence[set[str]],
    labels: Mapping[str, str],
    leave_out: Callable[[str, str], None],
    known: Sequence[str] | None = None,
) -> tuple[list[Case], list[set[str]], tuple[str, ...]]:
    """The cases whose patients have a class, and the classes: those of the labels, unless they are known."""
    classes = tuple(sorted(set(labels.values()))) if known is None else tuple(known)
    if len(classes) < 2:
        raise DataError(f"labels.csv has one class only, {enumerated(map(shown, classes))}: two or more are needed")
    kept, said = list[Case](), list[set[str]]()
    for case, ones in zip(cases, identifiers, strict=True):
        keys = (case.subject, case.patient, stem(Path(case.file)), case.file)
        label = next((labels[key] for key in keys if key is not None and key in labels), None)
        if label is None:
            leave_out(case.name, "has no label: labels.csv does not name its subject")
            continue
        kept.append(replace(case, label=classes.index(label)))
        said.append(ones)
    if not kept:
        raise DataError("labels.csv names none of the subjects that were found")
    return kept, said, classes


def _classes(ids: Sequence[int], names: Mapping[int, str], binary: bool) -> tuple[str, ...]:
    if binary:
        return ("background", "foreground")
    return tuple(names.get(number, "background" if number == 0 else str(number)) for number in ids)


def counts_of(cases: Sequence[Case], groups: Sequence[int], classes: Sequence[str]) -> dict[str, int]:
    """How much there is: cases, patients, and patients of each class or cases without anything marked."""
    found = {"cases": len(cases), "patients": len(set(groups))}
    if cases and cases[0].label is None:
        return found | {"without": sum(not case.foreground for case in cases)}
    for number, name in enumerate(classes):
        found[name] = len({group for case, group in zip(cases, groups, strict=True) if case.label == number})
    return found


def shape_of(shapes: Sequence[tuple[int, ...]]) -> str:
    """The least and the most of every side, as words."""
    sides = [(min(ones), max(ones)) for ones in zip(*shapes, strict=True)]
    return "×".join(str(low) if low == high else f"{low}–{high}" for low, high in sides)


def whose_are(cases: Sequence[Case], people: int) -> str:
    """How it is known who is on which image, as a sentence."""
    if not any(case.subject or case.patient for case in cases) and people == len(cases):
        return "nothing says which images are of one patient, so every image counts as a patient of its own"
    unnamed = sum(not (case.subject or case.patient) for case in cases)
    rest = f"; nothing says whose {unnamed} of the images are, and each counts as of another patient" if unnamed else ""
    return f"{people} patients by subject, PatientID and content{rest}"


def _warnings(
    cases: Sequence[Case],
    groups: Sequence[int],
    counts: Mapping[str, Mapping[str, int]],
) -> list[str]:
    found: list[str] = []
    owners = Counter(one for one in {(group, subject_of(case)) for group, case in zip(groups, cases, strict=True)})
    several = {group for group, count in Counter(group for group, _ in owners).items() if count > 1}
    for group in sorted(several)[:3]:
        names = sorted(name for one, name in owners if one == group)
        found.append(
            f"{enumerated(map(shown, names))} count as one patient: they share a PatientID or a file's content"
        )
    for split, ones in counts.items():
        if ones["patients"] < FEW:
            found.append(f"{ones['patients']} patients in {split} decide little")
    return found


__all__ = ["Cases", "Medical", "Target", "fingerprint_of", "subject_folder"]
