"""A folder of medical images to test with: another hospital, another scanner."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from foveate.data.layout import check_folder
from foveate.data.medical.cases import Case, read_cases
from foveate.data.medical.data import Cases, Medical, fingerprint_of
from foveate.data.medical.folder import counts_of, identifiers_of, labelled, shape_of, subject_of, whose_are
from foveate.data.medical.report import MedicalReport
from foveate.data.medical.sides import patients
from foveate.data.medical.subjects import list_subjects
from foveate.data.report import LeftOut, shown
from foveate.data.shift.classes import missing, placed
from foveate.errors import DataError


def shifted_subjects(
    root: Path,
    like: Medical,
    *,
    binary: bool = False,
    stop: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Cases, str, MedicalReport]:
    """The cases of a folder, with the task, axes and classes of other data; a fingerprint of them; and a report.

    The numbers in masks are named by ``classes.csv`` in the folder, or by themselves as in the training data.

    Raises:
        DataError: If there is no case that can be used, or a class is unknown.
    """
    check_folder(root)
    where = shown(str(root))
    listing = list_subjects(root)
    sided = any(one.split is not None for one in listing.found)
    found = [one for one in listing.found if one.split == "test"] if sided else list(listing.found)
    if not found:
        raise DataError(f"{where} puts no image on the side of test: give those to test with alone")
    if like.task == "classification":
        if not listing.labels:
            raise DataError(f"{where} has no labels.csv (subject,label): there is nothing to test by")
        placed(dict.fromkeys(listing.labels.values()), like.classes, where)
    skipped: list[LeftOut] = []

    def leave_out(name: str, reason: str) -> None:
        if stop:
            raise DataError(f"{shown(name)} {reason}")
        skipped.append(LeftOut(shown(name), reason))

    reading = read_cases(
        found, masks=like.task == "segmentation", dimensions=like.dimensions, binary=binary, known=None,
        leave_out=leave_out, progress=progress,
    )  # fmt: skip
    cases = reading.cases
    if like.task == "classification" and cases:
        cases, _, _ = labelled(cases, [identifiers_of(one) for one in cases], listing.labels, leave_out, like.classes)
    if not cases:
        raise DataError(f"{where} has no case that can be used{f', such as {skipped[0]}' if skipped else ''}")
    _check_channels(cases, like, where)
    if like.task == "segmentation":
        numbers = (0, 1) if binary else _numbers(reading.ids, listing.classes, like.classes, where)
        cases = [replace(case, numbers=numbers) for case in cases]
    groups = patients([identifiers_of(case) for case in cases])
    counts = counts_of(cases, groups, like.classes)
    without = (
        missing([(name, counts[name]) for name in like.classes], "a patient") if like.task == "classification" else []
    )
    report = MedicalReport(
        name=shown(Path(os.path.abspath(root)).name),  # noqa: PTH100  # "." has a name, and a link keeps its own
        task=like.task,
        shape=shape_of([case.shape for case in cases]),
        counts={"test": counts},
        split="what is on the side of test is tested with" if sided else "all of it is tested with",
        whose=whose_are(cases, len(set(groups))),
        skipped=tuple(skipped),
        ignored=listing.ignored,
        conversions=dict(sorted(reading.changes.items())),
        warnings=tuple(without),
    )
    settings = f"shifted_subjects {like.task} {like.classes} {binary} {like.dimensions}"
    test = Cases(reading.shelf, cases, [subject_of(case) for case in cases], groups)
    return test, fingerprint_of(settings, cases, ["test"] * len(cases)), report


def _numbers(ids: Sequence[int], names: Mapping[int, str], classes: Sequence[str], where: str) -> tuple[int, ...]:
    """The number in masks of each class of the training data; one that no mask has, where a class is missing.

    Example:
        >>> _numbers((0, 4), {4: "lesion"}, ("background", "organ", "lesion"), "here")
        (0, 5, 4)
    """
    called = {number: names.get(number, "background" if number == 0 else str(number)) for number in {*ids, *names}}
    places = placed(dict.fromkeys(called.values()), classes, where)
    by_place = {places[name]: number for number, name in called.items()}
    unused = max(called, default=0) + 1
    return tuple(by_place.get(place, unused) for place in range(len(classes)))


def _check_channels(cases: Sequence[Case], like: Medical, where: str) -> None:
    wanted, there = like.train[0][0].shape[0], cases[0].shape[0]
    if wanted != there:
        raise DataError(f"the images in {where} have {there} channels, and those of the training data {wanted}")
