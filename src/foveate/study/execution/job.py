"""What is carried out, and what is said while it is."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from foveate.errors import OptionError


@dataclass(frozen=True)
class Job:
    """One run to carry out.

    Attributes:
        key: The hash of the run's configuration: 16 hexadecimal digits, and the name of its file.
        label: What a person calls it: ``"cbam, seed 3"``.
        payload: Everything that its numbers depend on, as JSON has it.
        arm: Runs of the same arm take about the same time; the label if there are no arms.
        maps: Whether a file belongs to its result.

    Raises:
        OptionError: If the key is not one.

    Example:
        >>> Job("0123456789abcdef", "cbam, seed 3", {"seed": 3}, arm="cbam").arm
        'cbam'
    """

    key: str
    label: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    arm: str = ""
    maps: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{16}", self.key):
            raise OptionError(f"the key of a run has 16 hexadecimal digits, not '{self.key}'")
        if not self.arm:
            object.__setattr__(self, "arm", self.label)


@dataclass(frozen=True)
class Finished:
    """What a run leaves behind.

    Attributes:
        record: Its result, as JSON has it.
        maps: The content of a file that belongs to it, perhaps.
    """

    record: Mapping[str, Any]
    maps: bytes | None = None


class Work(Protocol):
    """What is done for a job, in any process, on any machine: it depends on the payload alone."""

    def __call__(self, payload: Mapping[str, Any], note: Callable[[dict[str, Any]], None], /) -> Finished:
        """Carry a run out.

        Args:
            payload: The job's.
            note: Says how far the run is, in plain values; ``epoch`` of ``epochs``, and what was reached (``said``: a
                few words), are shown.

        Raises:
            FoveateError: If it cannot be done, in a sentence: the run has failed, the others go on.
        """
        ...


@dataclass(frozen=True)
class Word:
    """What is said of a run while it is carried out.

    Attributes:
        kind: It has begun; says how far it is; is finished; cannot be done; was lost with its process or machine, and
            may be tried again; or nothing can be done there, and the study must not go on.
        key: Of the job.
        value: ``where`` it has begun, the note, the record, or a ``sentence`` (and its ``trace``).
        maps: The file of a finished run.
    """

    kind: Literal["begun", "noted", "done", "failed", "died", "refused"]
    key: str
    value: dict[str, Any] = field(default_factory=dict[str, Any])
    maps: bytes | None = None


def work_named(name: str) -> Work:
    """The function that carries runs out.

    Args:
        name: As ``module:function``, so that any process finds it.

    Raises:
        OptionError: If there is none of that name.

    Example:
        >>> work_named("json:loads").__name__
        'loads'
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(
            f"there is no function '{name}' to carry runs out ({error}): write module:function"
        ) from error
    if not callable(found):
        raise OptionError(f"'{name}' is not a function, and cannot carry runs out")
    return found  # pyright: ignore[reportReturnType]


def part_of(jobs: Sequence[Job], part: str) -> list[Job]:
    """A machine's share of the jobs, where machines share nothing: their folders are merged afterwards.

    Args:
        jobs: All of them, in the order of the study.
        part: As ``2/3``: the second of three machines, which takes every third run from the second on.

    Raises:
        OptionError: If it is not that.

    Example:
        >>> jobs = [Job(f"{number:016x}", str(number)) for number in range(5)]
        >>> [job.label for job in part_of(jobs, "2/2")]
        ['1', '3']
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part.strip())
    if not found or not 1 <= (which := int(found[1])) <= (count := int(found[2])):
        raise OptionError(f"'{part}' is not a part of the runs; write 1/3, 2/3 and 3/3 on three machines")
    return list(jobs)[which - 1 :: count]
