"""Every map of a network as it runs, to be measured or to be replaced: nothing is kept and no matrix is built."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import Map, Relation, maps_of
from foveate.errors import FoveateError
from foveate.explain.recording.passes import Runs
from foveate.surgery.attached import Found, find_attention
from foveate.surgery.attended import ATTENTION, HOST
from foveate.surgery.foreign import Shown, listen


@dataclass(frozen=True)
class MapName:
    """Which map it is.

    Attributes:
        place: As in :class:`~foveate.explain.AttentionMap`.
        attachment: As there.
        step: As there.
        axes: What the weights vary over, as there.
        run: Which of its runs in one pass of the network, from 0: a module that several levels share runs several
            times.
    """

    place: str
    attachment: str
    step: str
    axes: tuple[str, ...]
    run: int = 0

    @property
    def relates(self) -> bool:
        """Whether it relates pairs, of positions or of channels."""
        return any("->" in axis for axis in self.axes)

    def __str__(self) -> str:
        """For people.

        Example:
            >>> print(MapName("layer1.0.bn2", "cbam", "spatial", ("h", "w")))
            layer1.0.bn2 (cbam, spatial)
        """
        parts = [self.attachment, self.step, f"run {self.run + 1}" if self.run else ""]
        told = ", ".join(filter(None, parts))
        return f"{self.place} ({told})" if told else self.place or "the network"


@dataclass(frozen=True)
class Heard:
    """One map while the network runs.

    Attributes:
        name: Which.
        value: Weights, the batch first; or a relation, which is asked for a few columns at a time.
        like: Of what the attention was given the batch, the device and the type, and no elements.
        size: How many positions, or channels, it relates; ``None`` where it relates none.
        found: The attention that it belongs to.
        runs: Of the network's passes, this one: it may still fail.
    """

    name: MapName
    value: Tensor | Relation
    like: Tensor
    size: tuple[int, ...] | None
    found: Found
    runs: Runs

    @property
    def batch(self) -> int:
        """How many samples pass."""
        return len(self.value if isinstance(self.value, Tensor) else self.like)


Hear = Callable[[Heard], Any]


def unseen(network: nn.Module) -> list[str]:
    """What attention a network has whose maps nobody knows how to see, in words."""
    return [f"{type(one.module).__name__} at '{one.place}'" for one in find_attention(network) if not _seen(one)]


@contextmanager
def hearing(network: nn.Module, hear: Hear, among: Sequence[Found] | None = None) -> Generator[Runs]:
    """Call a function with every map; what it returns, unless ``None``, acts in the map's place.

    Args:
        network: Unwrapped.
        hear: The function. What it is given may be part of a graph of gradients.
        among: Which attention; all of the network's, if ``None``.

    Raises:
        FoveateError: If the network has no attention whose maps can be seen.
    """
    found = list(find_attention(network)) if among is None else among
    if not found:
        raise FoveateError("this network has no attention to ask about; put some in with foveate.attach(model, ...)")
    if not any(_seen(one) for one in found):
        what = ", ".join(sorted({type(one.module).__name__ for one in found}))
        raise FoveateError(f"this network has attention ({what}), but how to see its maps is not known")
    runs = Runs()
    with ExitStack() as hooks:
        hooks.callback(runs.close)
        for handle in runs.following(network):
            hooks.callback(handle.remove)
        for one in found:
            ear = _Ear(one, hear, runs)
            hooks.callback(one.module.register_forward_pre_hook(ear.given, with_kwargs=True, prepend=True).remove)
            if one.entry is not None:
                hooks.enter_context(listen(one.module, one.entry, ear.foreign))
            for step, point in _points(one):
                hooks.callback(point.register_forward_hook(ear.at(step)).remove)
        yield runs


class _Ear:
    """What is heard of one attention module."""

    def __init__(self, found: Found, hear: Hear, runs: Runs) -> None:
        self.found, self.hear, self.runs = found, hear, runs
        self.like = torch.empty(0)

    def given(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = next((one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.ndim), None)
        if given is not None:
            self.like = given.new_empty(len(given), 0)  # the input itself would be held until the next one comes

    def at(self, step: str) -> Any:
        def hook(point: nn.Module, _: Any, output: Any) -> Any:
            if not isinstance(point, Map):
                return None
            return self._told(step, point.axes, output, None if isinstance(output, Tensor) else output.size)

        return hook

    def foreign(
        self, shown: Shown, axes: tuple[str, ...], weights: Tensor, size: tuple[int, ...] | None
    ) -> Tensor | None:
        return self._told(f"{self.found.inside}.{shown.step}".strip("."), axes, weights, size)

    def _told(self, step: str, axes: tuple[str, ...], value: Any, size: tuple[int, ...] | None) -> Any:
        key = (self.found.place, self.found.key, step)
        name = MapName(*key, axes, self.runs.next(key))
        return self.hear(Heard(name, value, self.like, size, self.found, self.runs))


def _points(found: Found) -> Iterator[tuple[str, Map]]:
    for path, point in maps_of(found.module).items():
        names = [name for name in path.removesuffix("map").strip("._").split(".") if name != HOST]
        if ATTENTION not in names:  # else attached to a part of this attention, and found by itself
            yield ".".join(filter(None, (found.inside, *names))), point


def _seen(found: Found) -> bool:
    return any(True for _ in _points(found)) or bool(found.entry and found.entry.maps)


def batches_again(batches: Iterable[Any]) -> None:
    """Refuse batches that can be gone through only once.

    Raises:
        FoveateError: With what to give instead.

    Example:
        >>> batches_again([1, 2])
    """
    if iter(batches) is batches:
        raise FoveateError(
            "these batches can be gone through once only: give a list, or a loader that does not shuffle"
        )
