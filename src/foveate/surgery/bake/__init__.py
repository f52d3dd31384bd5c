"""Baking: an attended network as plain modules that need nothing but PyTorch.

`capture` makes a graph of each attention module, and `join` one of its place, with the host's module in it.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from foveate.errors import FoveateError, PlaceError
from foveate.surgery.attended import Absent, Attended, attachments, attended_places, host_path
from foveate.surgery.bake.capture import captured
from foveate.surgery.bake.join import Signature, joined
from foveate.surgery.checkpoint import answer_no_more
from foveate.surgery.insert import PART, replace_module
from foveate.surgery.optimize import optimized, restore
from foveate.surgery.places.watch import arguments
from foveate.surgery.unwrap import unwrapped

_OURS = __name__.partition(".")[0]
_NOTES = f"_{_OURS}"


def bake(model: nn.Module, example: Any = None) -> nn.Module:
    """A copy of an attended network for people who do not have foveate: plain modules, the same outputs bit for bit.

    Every attended module becomes an FX graph of PyTorch's own operations around the host's module, or in its place:
    a convolution that is replaced is not in the copy. The copy pickles, with ``torch.save(baked, file)``, and runs
    where foveate is not installed. It is for inference: batch normalisation inside attention uses its statistics for
    good. Attachments that are disabled are left out. A network with a fusion or a guided gate is not baked: its
    two maps come from two modules, and a graph of one cannot reach the other; ``torch.export`` takes it whole.

    Attention cannot be folded into the host's weights, as a norm can: its weights depend on the input.

    A graph belongs to the device and the type of the network when it was baked. The keys of the host's modules that
    carry attention gain a level, ``bn.host.weight``; all others stay.

    Args:
        model: An attended network; it is left as it is.
        example: An input, to compare the two networks with at the end; a tuple of positional or a dictionary of
            keyword arguments for a network that takes several. Needed where an attended module takes ``*args``,
            ``**kwargs`` or a default that no graph can hold: the copy's is then called as in the example, and only so.

    Returns:
        The copy, in evaluation mode.

    Raises:
        OptionError: If it is no network.
        PlaceError: If nothing is attached.
        FoveateError: If attention cannot be captured exactly, the host itself needs foveate, or it is not known how an
            attended module is called.

    Example:
        >>> import foveate, torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
        >>> images = torch.randn(2, 3, 9, 9)
        >>> baked = bake(foveate.attach(model, "se", at="0", start="paper", example=images))
        >>> torch.equal(baked(images), model(images)), type(baked[1]).__name__
        (True, 'ReLU')
    """
    inner = unwrapped(model)
    if not attachments(inner):
        raise PlaceError("nothing is attached to this network, so there is nothing to bake")
    if optimized(inner):  # what runs within something else is foveate's doing, and rounds in another way
        inner = restore(copy.deepcopy(inner))
    if isinstance(inner, Attended):
        raise FoveateError(PART)
    paired = next((path for path, place in attended_places(inner).items() if place.foveate_slots), None)
    if paired is not None:
        raise FoveateError(
            f"'{host_path(inner, paired)}' carries what joins two maps, of which another module has the other, and a "
            "graph of one module cannot hold that: export the whole network with torch.export"
        )
    expected, calls = _run(inner, example) if example is not None else ([], {})
    baked = copy.deepcopy(inner).eval()
    graphs: dict[Hashable, fx.GraphModule] = {}
    with torch.inference_mode(False), torch.no_grad():
        for path, place in sorted(attended_places(baked).items(), key=lambda item: -item[0].count(".")):
            where = host_path(baked, path)
            acting = [
                (key, seat)
                for key, seat in place.foveate_seats.items()
                if seat.attachment not in place.foveate_disabled
            ]
            graphed = [(key, seat, captured(place.foveate[key], seat, where, graphs)) for key, seat in acting]
            host = nn.Identity() if isinstance(place.foveate_host, Absent) else place.foveate_host
            replace_module(baked, place, joined(host, graphed, where, calls.get(path)) if graphed else host)
    _forget(baked)
    strangers = [path for path, module in baked.named_modules() if type(module).__module__.partition(".")[0] == _OURS]
    if strangers:
        raise FoveateError(
            f"the host itself is made of foveate's modules, such as '{strangers[0] or type(baked).__name__}', and "
            "cannot be freed of foveate"
        )
    if example is not None:
        _compare(expected, _run(baked, example)[0])
    return baked


def _forget(model: nn.Module) -> None:
    """Remove what attaching, freezing and whatever else of ours left on the network beside the wrappers."""
    for module in model.modules():
        answer_no_more(module)
        for note in [key for key in module.__dict__ if key.startswith(_NOTES)]:
            del module.__dict__[note]


def _run(model: nn.Module, example: Any) -> tuple[list[Any], dict[str, set[Signature]]]:
    """What a network returns in evaluation, and how each attended module was called. The network stays as it was."""
    args, kwargs = tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, arguments(example))
    calls: dict[str, set[Signature]] = {}

    def noting(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(path, set()).add((len(args), tuple(sorted(kwargs))))

        return hook

    training = {module: module.training for module in model.modules()}
    places = attended_places(model).items()
    hooks = [place.register_forward_pre_hook(noting(path), with_kwargs=True) for path, place in places]
    try:
        with torch.no_grad():
            return tree_leaves(model.eval()(*args, **kwargs)), calls
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in training.items():
            module.training = flag


def _compare(expected: list[Any], found: list[Any]) -> None:
    pairs = list(zip(expected, found, strict=True))
    if not all(torch.equal(one, other) if isinstance(one, Tensor) else one == other for one, other in pairs):
        raise FoveateError("the baked network returns something else for the example: it was not baked")
