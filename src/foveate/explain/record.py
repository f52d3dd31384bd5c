"""Recording attention: every map by name, while the network runs as it always does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor, nn

from foveate.attention import Map, maps_of
from foveate.errors import FoveateError
from foveate.fusion import Pair
from foveate.registry import Card
from foveate.replacement import Replacement
from foveate.surgery.attached import Found, find_attention
from foveate.surgery.attended import ATTENTION, HOST
from foveate.surgery.foreign import Shown, listen
from foveate.surgery.unwrap import unwrapped

# where features have no energy at all, their share of it is this, not zero: log 0 has no picture
_SMALLEST_SHARE = 1e-6
Key = tuple[str, str, str]


@dataclass(frozen=True)
class AttentionMap:
    """What one map held: the weights that multiplied or mixed the features, not why the network decided.

    Attributes:
        place: The module whose output was attended, or the path of the mechanism where it is part of the network.
        attachment: The name of the attachment; empty where the mechanism is part of the network.
        step: Which step of the mechanism, as ``"channel"``; empty where it has one.
        axes: What the weights vary over, as in :class:`foveate.attention.Map`. Attention of other libraries may also
            have ``"branch"``, weights over parallel branches, and ``"head"``, several affinities beside each other.
        values: A gate's weights, ``(b, c or 1, h or 1, w or 1)``, with branches ``(b, branch, c, 1, 1)``; an
            affinity's, ``(b, source, target)``, with heads ``(b, head, source, target)``. Float32 on the CPU.
        size: Height and width of an affinity's positions, which ``values`` counts in rows; ``(channels,)`` for one of
            channels; ``None`` for a gate.
        card: The mechanism's card; ``None`` for a stranger's.
    """

    place: str
    attachment: str
    step: str
    axes: tuple[str, ...]
    values: Tensor
    size: tuple[int, ...] | None = None
    card: Card | None = None

    def at(self, row: int, column: int) -> Tensor:
        """One position of an affinity: its weights over all positions, ``(b, h, w)``, or ``(b, head, h, w)``.

        Raises:
            FoveateError: For a gate, for a relation of channels, or for a position outside the map.
        """
        if self.size is None:
            raise FoveateError(f"'{self.place}' holds a gate, which has no point to ask about; see `values`")
        if len(self.size) != 2:
            raise FoveateError(f"'{self.place}' relates channels, which have no position to ask about; see `values`")
        height, width = self.size
        if not (0 <= row < height and 0 <= column < width):
            raise FoveateError(f"position ({row}, {column}) lies outside the map of {height}×{width}")
        return self.values[..., row * width + column].unflatten(-1, self.size)


@dataclass(repr=False)
class Recording(Sequence[AttentionMap]):
    """What was recorded: a sequence of maps, in the order in which the network runs them.

    Several forward passes are joined along the batch.

    Attributes:
        chunks: What each pass left, by place, attachment and step.
        emphases: What each pass left of :attr:`emphasis`, by place, attachment and path in it.
    """

    chunks: dict[Key, list[AttentionMap]] = field(default_factory=dict[Key, list[AttentionMap]], repr=False)
    emphases: dict[Key, list[Tensor]] = field(default_factory=dict[Key, list[Tensor]], repr=False)

    @property
    def emphasis(self) -> dict[str, Tensor]:
        """Where each place turned feature energy up (above zero) or down: ``(b, h, w)`` by place.

        The natural logarithm of a position's share in the energy of the attention's output over its share in the
        energy of the input. Gates on channels have no map of positions; this shows what they do to positions.
        """
        places: dict[str, Tensor] = {}
        for (place, _, _), chunks in self.emphases.items():
            # mechanisms at one place act in turn, so the logarithms of what each did add up
            change = _joined(chunks, place)
            places[place] = places[place] + change if place in places else change
        return places

    @overload
    def __getitem__(self, index: int) -> AttentionMap: ...
    @overload
    def __getitem__(self, index: slice) -> list[AttentionMap]: ...
    def __getitem__(self, index: int | slice) -> AttentionMap | list[AttentionMap]:
        """Maps by number."""
        keys = list(self.chunks)
        if isinstance(index, slice):
            return [self._map(key) for key in keys[index]]
        return self._map(keys[index])

    def __len__(self) -> int:
        """How many maps there are, however many passes were recorded."""
        return len(self.chunks)

    def __repr__(self) -> str:
        """The places and steps, as they are asked for by name."""
        names = [".".join(filter(None, (place, attachment, step))) for place, attachment, step in self.chunks]
        return f"Recording of {len(self)} maps: {', '.join(names)}" if names else "Recording of nothing yet"

    def at(self, place: str) -> list[AttentionMap]:
        """The maps of one place.

        Raises:
            FoveateError: If nothing was recorded there, with the places where something was.
        """
        found = [self._map(key) for key in self.chunks if key[0] == place]
        if not found:
            places = ", ".join(dict.fromkeys(key[0] for key in self.chunks)) or "none: the network did not run"
            raise FoveateError(f"no map was recorded at '{place}'; places: {places}")
        return found

    def _map(self, key: Key) -> AttentionMap:
        chunks = self.chunks[key]
        first = chunks[0]
        values = _joined([chunk.values for chunk in chunks], key[0])
        return AttentionMap(*key, first.axes, values, first.size, first.card)


@contextmanager
def record(model: nn.Module) -> Generator[Recording]:
    """Record every attention map of a network for as long as the ``with`` lasts.

    Nothing else changes: not the mode, not the gradients, not the outputs. A compiled network runs eagerly meanwhile,
    because compiled graphs hold no maps. Wrappers for distributed and compiled networks are seen through. Attention
    that timm, torchvision, segmentation-models-pytorch, MONAI or ultralytics built in is recorded too.

    Args:
        model: A network with attention, attached or its own.

    Raises:
        FoveateError: If the network has no attention, or none whose maps can be seen.

    Example:
        >>> import torch
        >>> from foveate import attach, hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "cbam", start="paper").eval()
        >>> with torch.no_grad(), record(model) as maps:
        ...     scores = model(torch.randn(2, 3, 32, 32))
        >>> [(m.place, m.step, tuple(m.values.shape)) for m in maps][:2]
        [('layer1.0.bn2', 'channel', (2, 16, 1, 1)), ('layer1.0.bn2', 'spatial', (2, 1, 32, 32))]
    """
    found = list(find_attention(unwrapped(model)))
    if not found:
        raise FoveateError("this network has no attention to record; put some in with foveate.attach(model, ...)")
    if not any(maps_of(one.module) or (one.entry and one.entry.maps) for one in found):
        kinds = ", ".join(sorted({type(one.module).__name__ for one in found}))
        raise FoveateError(f"this network has attention ({kinds}), but how to see its maps is not known")
    recording = Recording()
    with ExitStack() as hooks:
        for one in found:
            # what stands in a convolution's place turns no energy of the same features up or down
            if (one.entry is None or one.entry.recalibrates) and not isinstance(one.module, Replacement):
                hook = _emphasis_hook(recording, (one.place, one.key, one.inside))
                handle = one.module.register_forward_hook(hook, with_kwargs=True)
                hooks.callback(handle.remove)
            if one.entry is not None:
                hooks.enter_context(listen(one.module, one.entry, _reporter(recording, one)))
            for path, point in maps_of(one.module).items():
                names = [name for name in path.removesuffix("map").strip("._").split(".") if name != HOST]
                if ATTENTION in names:  # attached to a part of this attention, and found by itself
                    continue
                key = (one.place, one.key, ".".join(filter(None, (one.inside, *names))))
                hooks.callback(point.register_forward_hook(_map_hook(recording, key, one.card)).remove)
        hooks.enter_context(torch.compiler.set_stance("force_eager"))  # whatever was compiled, and however
        yield recording


def _reporter(recording: Recording, found: Found) -> Any:
    def report(shown: Shown, axes: tuple[str, ...], weights: Tensor, size: tuple[int, int] | None) -> None:
        key = (found.place, found.key, f"{found.inside}.{shown.step}".strip("."))
        # a copy, because the network is free to change its tensor afterwards
        values = weights.detach().to(device="cpu", dtype=torch.float32, copy=True)
        recording.chunks.setdefault(key, []).append(AttentionMap(*key, axes, values, size, found.card))

    return report


def _map_hook(recording: Recording, key: Key, card: Card | None) -> Any:
    def hook(point: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(point, Map):
            return
        if isinstance(output, Tensor):
            values, size = output, None
        else:
            values, size = output.dense(), output.size
        seen = AttentionMap(*key, point.axes, values.detach().float().cpu(), size, card)
        recording.chunks.setdefault(key, []).append(seen)

    return hook


def _emphasis_hook(recording: Recording, key: Key) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        # of two maps, what the network would have without the attention
        x = module.identity(*inputs) if isinstance(module, Pair) else next(iter((*inputs, *named.values())))
        if isinstance(output, Tensor) and output.ndim > 2 and output.shape == x.shape:
            change = _energy_share(output).log() - _energy_share(x).log()
            recording.emphases.setdefault(key, []).append(change.cpu())

    return hook


def _energy_share(x: Tensor) -> Tensor:
    energy = x.detach().float().square().mean(1)
    mean = energy.mean(tuple(range(1, energy.ndim)), keepdim=True)
    return (energy / mean.clamp_min(torch.finfo(torch.float32).tiny)).clamp_min(_SMALLEST_SHARE)


def _joined(chunks: list[Tensor], place: str) -> Tensor:
    if len({chunk.shape[1:] for chunk in chunks}) > 1:
        raise FoveateError(
            f"the maps at '{place}' differ in size from pass to pass; record one size of image at a time"
        )
    return torch.cat(chunks)
