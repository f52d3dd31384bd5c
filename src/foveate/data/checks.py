"""What makes a result on images doubtful before anything was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from foveate.data.decode import NEARLY_BLACK
from foveate.data.reading import Reading
from foveate.data.report import enumerated

FEW = 20


def warnings_about(
    classes: Sequence[str],
    labels: Sequence[int],
    names: Sequence[str],
    reading: Reading,
    members: Mapping[str, Sequence[int]],
    counts: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """Small classes, copies across splits and classes, and doubtful brightness, each as a sentence.

    Args:
        classes: What each label stands for.
        labels: The label of each image that was read.
        names: What each is called.
        reading: What was read.
        members: The images of each split, by their place in the reading.
        counts: Images by split, then by class.
    """
    return [
        *_small(counts, classes),
        *leaks(names, reading.digests, members),
        *_copies(classes, labels, names, reading.digests),
        *_brightness(reading.changes),
        *reading.remarks,
    ]


def _small(counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> list[str]:
    small: list[str] = []
    for name in classes:
        of_class = {split: of_split[name] for split, of_split in counts.items()}
        if sum(of_class.values()) < FEW:
            small.append(f"{name} ({', '.join(f'{count} {split}' for split, count in of_class.items())})")
    if not small:
        return []
    return [f"classes with fewer than {FEW} images decide little: {enumerated(small, 5)}"]


def leaks(names: Sequence[str], digests: Sequence[str], members: Mapping[str, Sequence[int]]) -> list[str]:
    """Which images are in two splits, as sentences."""
    found: list[str] = []
    for first, second in combinations(members, 2):
        seen = {digests[position]: position for position in reversed(members[first])}
        copies = [position for position in members[second] if digests[position] in seen]
        if copies:
            one = copies[0]
            found.append(
                f"images of {second} that are byte for byte in {first} too: {len(copies)}, such as {names[one]} and "
                f"{names[seen[digests[one]]]}; results on {second} will be too good"
            )
    return found


def _copies(classes: Sequence[str], labels: Sequence[int], names: Sequence[str], digests: Sequence[str]) -> list[str]:
    first: dict[str, int] = {}
    same: list[int] = []
    contradicting: list[int] = []
    for position, digest in enumerate(digests):
        original = first.setdefault(digest, position)
        if original != position:
            (same if labels[original] == labels[position] else contradicting).append(position)
    found: list[str] = []
    if same:
        one = same[0]
        found.append(f"copies within a class: {len(same)}, such as {names[one]} of {names[first[digests[one]]]}")
    if contradicting:
        one = contradicting[0]
        original = first[digests[one]]
        found.append(
            f"copies in another class: {len(contradicting)}, such as {names[one]} in {classes[labels[one]]} of "
            f"{names[original]} in {classes[labels[original]]}; nobody can get both right"
        )
    return found


def _brightness(changes: Mapping[str, int]) -> list[str]:
    found: list[str] = []
    if dark := changes.get(NEARLY_BLACK, 0):
        found.append(
            f"16-bit images that use less than a sixteenth of their range: {dark}; they are nearly black in 8 bits, "
            "stretch them if that is not meant"
        )
    scales = [change for change in changes if change.startswith("floats of")]
    if len(scales) > 1:
        found.append(f"images of floats have different scales ({' and '.join(scales)}): save them alike")
    return found
