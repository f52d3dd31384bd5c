"""Patients on the sides of a split: what is of one patient stays together, and nobody is on two sides.

What shares an identifier is of one patient: the subject that folders or ``subjects.csv`` name, the patient that a DICOM
file names, and the content of a file, since a copy is of the same patient whatever it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from foveate.data.medical.cases import Case
from foveate.data.report import enumerated, shown
from foveate.data.split import deal
from foveate.errors import DataError

SPLITS = ("train", "validation", "test")
PERCENT = 15


def sides_of(
    cases: Sequence[Case], groups: Sequence[int], identifiers: Sequence[Collection[str]], seed: int
) -> tuple[list[str], str]:
    """The side of each case, and how it came to be: as was given, or the patients (of each class) dealt by seed.

    Raises:
        DataError: If a patient was put on two sides, or there are too few patients.
    """
    given = [case.split for case in cases]
    if all(split is not None for split in given):
        splits = [split or "" for split in given]
        check_sides([case.name for case in cases], identifiers, groups, splits)
        shares = {split: PERCENT for split in ("validation", "test") if split not in splits}
        how = "as given"
    else:
        splits, shares, how = ["train"] * len(cases), {"validation": PERCENT, "test": PERCENT}, ""
    if shares:
        rest = ", ".join(f"{percent} % {split}" for split, percent in shares.items())
        how = f"{how}{', and ' if how else ''}by patient {rest}, by seed {seed}"
        dealt = [number for number, split in enumerate(splits) if split == "train"]
        by_label: dict[int | None, list[int]] = {}
        first = {groups[number]: cases[number].label for number in reversed(dealt)}
        for number in dealt:
            by_label.setdefault(first[groups[number]], []).append(number)
        for ones in by_label.values():
            keys = [str(groups[number]) for number in ones]
            digests = {
                key: min(cases[n].content for n, k in zip(ones, keys, strict=True) if k == key) for key in set(keys)
            }
            if len(digests) < 1 + len(shares):
                raise DataError(
                    f"there are {len(digests)} patients to deal{'' if len(by_label) == 1 else ' of a class'}, "
                    f"and {1 + len(shares)} splits need one each: add patients, or name them in subjects.csv"
                )
            for split, positions in deal([digests[key] for key in keys], shares, seed).items():
                for position in positions:
                    splits[ones[position]] = split
    if missing := [split for split in SPLITS if split not in splits]:
        raise DataError(f"there is no usable case for {' and '.join(missing)}")
    return splits, how


def patients(identifiers: Sequence[Collection[str]]) -> list[int]:
    """A number a case: equal where cases share an identifier, also by way of others.

    Example:
        >>> patients([{"a"}, {"b"}, {"a", "c"}, {"c"}, {"d"}])
        [0, 1, 0, 0, 2]
    """
    owner: dict[str, int] = {}
    parents = list(range(len(identifiers)))

    def root(number: int) -> int:
        while parents[number] != number:
            number = parents[number]
        return number

    for number, ones in enumerate(identifiers):
        for one in ones:
            first, other = sorted((root(owner.setdefault(one, number)), root(number)))
            parents[other] = first
    roots = [root(number) for number in range(len(parents))]
    order = {one: position for position, one in enumerate(dict.fromkeys(roots))}
    return [order[one] for one in roots]


def check_sides(
    names: Sequence[str], identifiers: Sequence[Collection[str]], groups: Sequence[int], splits: Sequence[str]
) -> None:
    """Refuse splits that put a patient on two sides.

    Raises:
        DataError: With the patients, where they are, and what makes them one.
    """
    sides: dict[int, dict[str, int]] = {}
    for number, (group, split) in enumerate(zip(groups, splits, strict=True)):
        sides.setdefault(group, {}).setdefault(split, number)
    leaks = [(group, list(places.items())) for group, places in sides.items() if len(places) > 1]
    if not leaks:
        return
    sentences: list[str] = []
    for group, places in leaks:
        one, *_, other = places
        members = [set(ones) for ones, its in zip(identifiers, groups, strict=True) if its == group]
        common = sorted(set(identifiers[one[1]]) & set(identifiers[other[1]])) or sorted(set().union(*members))
        sentences.append(
            f"{shown(names[one[1]])} in {one[0]} and {shown(names[other[1]])} in {other[0]} "
            f"(both {enumerated(map(shown, common), 2)})"
        )
    count = "one patient is" if len(leaks) == 1 else f"{len(leaks)} patients are"
    raise DataError(
        f"{count} on more than one side: {'; '.join(sentences[:3])}; images of one patient belong on one side, or "
        "the test says nothing about new patients"
    )
