"""Whether a map shows what a network learned: layers are drawn anew from the top down, and the map should change.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: the cascading randomisation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.data.chance import generator
from foveate.errors import FoveateError, OptionError, check_at_least
from foveate.explain.at_rest import at_rest
from foveate.explain.heat import spread
from foveate.explain.trust.effect import fixed
from foveate.explain.trust.similarity import rank_correlation, structural_similarity
from foveate.surgery.attached import find_attention
from foveate.surgery.attended import host_path
from foveate.surgery.unwrap import unwrapped

# a network, images, and one map for each of them
Explain = Callable[[nn.Module, Tensor], Tensor]
# a map that still correlates by so much, though nothing is left of what was learned, does not show it
ALIKE = 0.5


@dataclass(frozen=True)
class Stage:
    """A network of which some layers were drawn anew, from the top.

    Attributes:
        layer: The lowest of them.
        share: The share of the network's parameters that was drawn anew.
        rank_correlation: Spearman's correlation of each image's map with the one of the whole network; ``None``
            where one of the two is the same everywhere.
        structural_similarity: The same of SSIM, at the image's size.
    """

    layer: str
    share: float
    rank_correlation: tuple[float | None, ...]
    structural_similarity: tuple[float | None, ...]

    @property
    def correlation(self) -> float | None:
        """The mean over images whose maps can be compared."""
        return _mean(self.rank_correlation)

    @property
    def similarity(self) -> float | None:
        """The mean over images whose maps can be compared."""
        return _mean(self.structural_similarity)


@dataclass(frozen=True)
class Cascade:
    """Networks drawn anew step by step; the last of them has nothing left of what was learned.

    Attributes:
        stages: From few layers to all of them.
    """

    stages: tuple[Stage, ...]

    @property
    def passed(self) -> bool | None:
        """Whether the map changes with the network; ``None`` where the maps cannot be compared."""
        last = self.stages[-1].correlation
        return None if last is None else abs(last) < ALIKE

    def sentence(self, what: str = "the map") -> str:
        """The verdict in words."""
        last = self.stages[-1]
        if last.correlation is None:
            return (
                f"with all layers drawn anew, or before, {what} is the same everywhere: whether it depends on the "
                "network's weights cannot be told"
            )
        told = f"its rank correlation with itself is {fixed(last.correlation, 2)}"
        compared = sum(one is not None for one in last.rank_correlation)
        if compared < len(last.rank_correlation):
            told += f" on {compared} of {len(last.rank_correlation)} images; on the others one of the two is flat"
        if self.passed:
            return f"{what} depends on the network's weights: with all layers drawn anew {told}"
        return (
            f"{what} hardly depends on the network's weights: with all layers drawn anew {told}; it shows the image "
            "and the architecture"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        means = [{"correlation": one.correlation, "similarity": one.similarity} for one in self.stages]
        stages = [{**asdict(one), **mean} for one, mean in zip(self.stages, means, strict=True)]
        return {"stages": stages, "passed": self.passed}


def cascade(network: nn.Module, images: Tensor, explain: Explain, *, stages: int = 6, seed: int = 0) -> Cascade:
    """Draw a network's layers anew, from the last that runs to the first, and compare each image's map with before.

    A layer is a module with parameters of its own, or one attention mechanism with all of its parts. It is drawn anew
    as it initialises itself (``reset_parameters``), statistics of norms included; parameters that nobody initialises
    change their order. All of this happens to a copy: the network itself is never touched.

    Args:
        network: Any network that can be copied.
        images: As it takes them.
        explain: From a network and images to one map for each, the target included: asked of the copy each time.
        stages: After how many layers, at least, the maps are compared: so often, evenly over all layers.
        seed: Of what is drawn.

    Raises:
        OptionError: If the network has no parameters that can be drawn anew.
        FoveateError: If it cannot be copied.
        MissingExtraError: If scipy or torchmetrics is not installed.

    Example:
        >>> from foveate import hosts
        >>> network = hosts.build("foveate/resnet8", classes=10)
        >>> brightness = cascade(network, torch.rand(2, 3, 32, 32), lambda _, images: images.mean(1), stages=2)
        >>> brightness.stages[-1].layer, brightness.stages[-1].share, brightness.passed
        ('conv1', 1.0, False)
    """
    check_at_least("stages", stages, 1)
    try:
        copied = copy.deepcopy(unwrapped(network))
    except Exception as error:
        raise FoveateError(f"this network cannot be copied ({error}), and it is not drawn anew itself") from error
    with at_rest(copied) as quiet:
        layers = list(reversed(_layers(quiet, images[:1])))
        if not layers:
            raise OptionError("this network has no parameters that could be drawn anew")
        before = _kept(explain(quiet, images))
        whole = {id(one.module) for one in find_attention(quiet)}
        counts = [
            sum(parameter.numel() for parameter in layer.parameters(recurse=id(layer) in whole)) for _, layer in layers
        ]
        ends = sorted({-(-len(layers) * stage // stages) for stage in range(1, stages + 1)})
        found: list[Stage] = []
        for start, end in zip([0, *ends], ends, strict=False):
            for at in range(start, end):
                torch.manual_seed(generator("layer", seed, at).initial_seed())
                _draw_anew(layers[at][1], whole=id(layers[at][1]) in whole)
            maps = _kept(explain(quiet, images))
            share = sum(counts[:end]) / sum(counts)
            found.append(
                _stage(host_path(quiet, layers[end - 1][0]), share, before, maps, (images.shape[2], images.shape[3]))
            )
    return Cascade(tuple(found))


def _kept(maps: Tensor) -> Tensor:
    """A copy: a map may be a view of what is drawn anew."""
    return maps.detach().to(device="cpu", dtype=torch.float32, copy=True)


def _stage(layer: str, share: float, before: Tensor, after: Tensor, size: tuple[int, int]) -> Stage:
    correlations = tuple(rank_correlation(one, other) for one, other in zip(before, after, strict=True))
    large = zip(spread(before, size), spread(after, size), strict=True)
    return Stage(layer, share, correlations, tuple(structural_similarity(one, other) for one, other in large))


def _layers(network: nn.Module, image: Tensor) -> list[tuple[str, nn.Module]]:
    """The layers by path, in the order in which they run for the first time."""
    attention = {id(one.module) for one in find_attention(network)}
    units = dict(_units(network, attention))
    order: dict[str, nn.Module] = {}

    def ran(path: str) -> Any:
        def hook(module: nn.Module, *_: Any) -> None:
            order.setdefault(path, module)

        return hook

    handles = [module.register_forward_hook(ran(path)) for path, module in units.items()]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    # what is not called as a module, such as a parameter read by the one above it, goes where it is defined: first
    return [*((path, module) for path, module in units.items() if path not in order), *order.items()]


def _units(network: nn.Module, attention: set[int]) -> Iterator[tuple[str, nn.Module]]:
    within: list[str] = []
    for path, module in network.named_modules():
        if any(path.startswith(f"{above}.") for above in within):
            continue
        if id(module) in attention:
            within.append(path)
            if any(True for _ in module.parameters()):
                yield path, module
        elif any(True for _ in module.parameters(recurse=False)):
            yield path, module


def _draw_anew(layer: nn.Module, *, whole: bool) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in layer.parameters(recurse=False):
        order = torch.randperm(parameter.numel(), device=parameter.device)
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    for child in layer.children() if whole else ():
        _draw_anew(child, whole=True)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
