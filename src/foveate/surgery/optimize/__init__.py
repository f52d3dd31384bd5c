"""A network that computes the same with less: norms within convolutions, gates with the addition after them.

Nothing is rewritten. Modules keep their classes, their parameters and their names; some of them get a forward pass of
their own, which :func:`restore` takes away again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from foveate.errors import PlaceError
from foveate.surgery.optimize.compiling import Compiled, compile_regions, interpret, is_compiled
from foveate.surgery.optimize.ending import Recalibrate, join, part
from foveate.surgery.optimize.folding import Convolve, Normalise, fold, unfold
from foveate.surgery.optimize.seen import Ending, Pair, endings, pairs, regions
from foveate.surgery.places.example import default_example
from foveate.surgery.places.watch import watch
from foveate.surgery.unwrap import unwrapped

# under this name an optimised network keeps what was left out, and what was compiled
_NOTE = "_foveate_optimized"


@dataclass(frozen=True)
class Optimized:
    """What :func:`optimize` did to a network, as it stands now.

    Attributes:
        norms: How many norms run within a convolution.
        endings: How many gates are computed with the addition after them.
        left_out: In sentences, the norms and the attended places that are as they were, and why.
        compiled: What was compiled; ``None`` if nothing was asked for.
    """

    norms: int
    endings: int
    left_out: tuple[str, ...] = ()
    compiled: Compiled | None = None

    def __str__(self) -> str:
        """As a person reads it."""
        lines = [f"{self.norms} norms within convolutions, {self.endings} gates with the addition after them"]
        lines += [str(self.compiled)] if self.compiled else []
        alike = Counter(why.partition(": ")[2] for why in self.left_out)
        for reason, count in alike.items():
            where = next(why for why in self.left_out if why.endswith(f": {reason}")).partition(": ")[0]
            lines.append(f"left out {where}{f' and {count - 1} more' if count > 1 else ''}: {reason}")
        return "\n".join(lines)


def optimize(model: nn.Module, *, compile: bool = False, example: Any = None) -> nn.Module:  # noqa: A002
    """Let a network compute the same, to rounding, with fewer passes over its maps. It works without attention too.

    For inference (evaluation mode, no gradients, float32 or other types on the CPU):

    - a batch normalisation that alone reads what a convolution returns runs within that convolution;
    - a gate at the end of a residual branch is multiplied, added to the shortcut, and cut off by ReLU, in one pass.

    Maps of less than a quarter of a million numbers run as they are: there, asking whether the weights are still the
    same takes longer than what is saved. It gains with batches and large images.

    Where a network is trained, differentiated, compiled, exported, traced, watched by hooks, or under autocast, it runs
    as it always did. Its classes, names, parameters and state dict are untouched. The folded weights are made from the
    parameters when they are first wanted and again whenever these changed, and take as much memory as the convolutions;
    the one change that can go unseen is that of a part of a tensor, such as one filter, written past PyTorch's counter
    through ``.data`` or NumPy. To be called again after attention was attached. ``torch.jit.script`` and
    ``nn.DataParallel`` want :func:`restore` first.

    Args:
        model: The network; it is changed and returned.
        compile: Whether residual blocks are compiled, or attention where there are none, each by itself with
            ``Module.compile``; equal ones share a graph. They are left to the compiler whole. ``optimized`` says how
            long it took. A gradient or another size compiles again.
        example: An input to watch one forward pass with, and to compile for.

    Returns:
        The network.

    Raises:
        OptionError: If it is no network.
        PlaceError: If the network does not run on the example.

    Example:
        >>> import foveate
        >>> model = foveate.attach(foveate.hosts.build("foveate/resnet20", classes=10), "se")
        >>> print(foveate.optimized(optimize(model)))
        19 norms within convolutions, 9 gates with the addition after them
    """
    inner = unwrapped(model)
    restore(inner)
    example = default_example(inner) if example is None else example
    seen = watch(inner, example)
    chosen = regions(seen, inner) if compile else []
    if compile and not chosen:
        raise PlaceError("this network has neither residual blocks nor attention: compile it whole, with torch.compile")
    compiled = {id(module) for region in chosen for module in region.modules()}
    left_out = list[str]()
    for found in (*pairs(seen), *endings(seen, inner)):
        if isinstance(found, str):
            left_out.append(found)
        elif isinstance(found, Pair) and not {id(found.norm), id(found.conv)} & compiled:
            fold(found.conv, found.norm)
        elif isinstance(found, Ending) and id(found.gate) not in compiled:
            join(found.gate, relu=found.relu)
    inner.__dict__[_NOTE] = (tuple(left_out), compile_regions(inner, chosen, example) if compile else None)
    return model


def restore(model: nn.Module) -> nn.Module:
    """Undo :func:`optimize`: the network is what it was, bit for bit. What was attached meanwhile stays.

    Args:
        model: The network; one that is not optimised is left as it is.

    Returns:
        The network.

    Raises:
        OptionError: If it is no network.

    Example:
        >>> import foveate, torch
        >>> model = foveate.hosts.build("foveate/resnet8", classes=10).eval()
        >>> images = torch.randn(1, 3, 32, 32)
        >>> before = model(images)
        >>> torch.equal(restore(optimize(model))(images), before)
        True
    """
    inner = unwrapped(model)
    inner.__dict__.pop(_NOTE, None)
    for module in inner.modules():
        unfold(module)
        part(module)
        interpret(module)
    return model


def optimized(model: nn.Module) -> Optimized | None:
    """What :func:`optimize` did to a network, counted now; ``None`` if nothing is left of it.

    Example:
        >>> import foveate
        >>> model = foveate.hosts.build("foveate/resnet20", classes=10)
        >>> print(optimized(model))
        None
        >>> optimized(optimize(model)).norms
        19
    """
    inner = unwrapped(model)
    found = [vars(module) for module in inner.modules()]
    convolutions = {id(one["forward"].conv) for one in found if isinstance(one.get("forward"), Convolve)}
    norms = [one["forward"] for one in found if isinstance(one.get("forward"), Normalise)]
    gates = sum(isinstance(one.get("recalibrate"), Recalibrate) for one in found)
    left_out, compiled = inner.__dict__.get(_NOTE, ((), None))
    if not (norms or gates or _NOTE in inner.__dict__):
        return None
    compiled = compiled if any(map(is_compiled, inner.modules())) else None  # a copy is not
    return Optimized(sum(id(one.conv) in convolutions for one in norms), gates, left_out, compiled)
