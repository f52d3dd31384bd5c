"""What was asked for: a mechanism, its options and a name, checked before anything runs."""

from __future__ import annotations

import difflib
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from keyword import iskeyword
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import FoveateError, FoveateWarning, OptionError, nearest
from foveate.fusion import GuidedGate
from foveate.registry import Spec, get, parse
from foveate.surgery.attended import attachments
from foveate.surgery.places.find import Kind

Factory = Callable[[int], nn.Module]
What = str | Spec | Factory
_PARALLEL = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def check_request(model: nn.Module, attention: What) -> Spec | Factory:
    """Refuse what is no network or no attention, before anything runs.

    Raises:
        OptionError: If the mechanism or an option does not exist, or something else was given.
        FoveateError: If the network cannot be changed.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"a network is a torch.nn.Module, not {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise FoveateError("a TorchScript network cannot be changed: attach to the Python network it was made from")
    if isinstance(model, _PARALLEL):
        raise FoveateError(
            f"{type(model).__name__} has counted its parameters already, so attention put in now would not be trained: "
            "attach first, wrap then"
        )
    if isinstance(attention, str):
        return parse(attention)
    if isinstance(attention, nn.Module) or not (isinstance(attention, Spec) or callable(attention)):
        raise OptionError(
            "attention is a name, a spec, or a function from channels to a module, because every place needs a module "
            f"of its own; not {type(attention).__name__}"
        )
    return attention


def check_acts_on_a_map(attention: Spec | Factory) -> None:
    """Refuse a mechanism that stands in a convolution's place, and say where it belongs.

    Raises:
        OptionError: If it is one.
    """
    if isinstance(attention, Spec) and get(attention.name).protocol == "replacement":
        raise OptionError(
            f"{attention.name} stands in a convolution's place: foveate.replace(model, '{attention}') puts it there"
        )


def kind_of_place(attention: Spec | Factory) -> Kind:
    """What kind of place a mechanism acts at: at a map, where two are added, or where one skips to another."""
    if not isinstance(attention, Spec) or get(attention.name).protocol != "fusion":
        return "attention"
    return "gate" if issubclass(get(attention.name).build, GuidedGate) else "fusion"


def usual_place(attention: Spec | Callable[..., Any]) -> str:
    """The preset at which a mechanism acts where nobody says another.

    Example:
        >>> [usual_place(Spec(name)) for name in ("cbam", "attentional_fusion", "attention_gate", "odconv")]
        ['residual', 'residual', 'skip', 'conv']
    """
    if isinstance(attention, Spec) and get(attention.name).protocol == "replacement":
        return "conv"
    return "skip" if kind_of_place(attention) == "gate" else "residual"


def warn_of_size(attention: Spec | Callable[..., Any], modules: Iterable[nn.Module], example: Any) -> None:
    """Say for images of which size modules were made, where they are tied to one that nobody gave."""
    said = made_for_size(attention, modules, example)
    if said is not None:
        warnings.warn(said, FoveateWarning, stacklevel=3)


def made_for_size(attention: Spec | Callable[..., Any], modules: Iterable[nn.Module], example: Any) -> str | None:
    """In a sentence, for images of which size modules were made; ``None`` if none is tied to a size."""
    if not isinstance(example, Tensor) or all(getattr(module, "fixed_size", None) is None for module in modules):
        return None
    channels, *sides = example.shape[1:]
    shape = "×".join(map(str, sides))
    return (
        f"{attention} is tied to the size of the map, and was made for images of {shape}, because no "
        f"example was given: if yours have another size, give one as example=torch.zeros(1, {channels}, height, width)"
    )


def check_no_more(function: str, attention: What, more: Mapping[str, object]) -> None:
    """Refuse a keyword that is none of the function's: an option of the mechanism, perhaps, or a misspelt word.

    Args:
        function: The name of a function of :mod:`foveate.surgery`, whose own keywords its signature says.
        attention: The mechanism that it was called with.
        more: The keywords that it does not have.

    Raises:
        OptionError: With the way in which an option is written, or the nearest keywords.
    """
    if not more:
        return
    from foveate import surgery  # not above: its functions are made with what stands here

    parameters = inspect.signature(getattr(surgery, function)).parameters.values()
    own = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    word, value = next(iter(more.items()))
    named = parse(attention) if isinstance(attention, str) else attention
    options = list(get(named.name).options) if isinstance(named, Spec) else []
    close = difflib.get_close_matches(word, [*own, *options], n=1, cutoff=0.6)
    if isinstance(named, Spec) and close and close[0] in options and close[0] not in own:
        said = Spec(named.name, ((close[0], value),))
        raise OptionError(
            f"{function} takes no '{word}'; an option of the mechanism is written with its name: '{said}', or "
            f"foveate.spec('{named.name}', {close[0]}={value!r})"
        )
    raise OptionError(f"{function} takes no '{word}'; {nearest(word, [*own, *options])}")


def factory_name(attention: Callable[..., Any]) -> str:
    """What a function that makes attention is called."""
    return getattr(attention, "__name__", type(attention).__name__)


def free_name(model: nn.Module, attention: Spec | Factory, wanted: str | None) -> str:
    """What an attachment will be called: as was asked for, or the first free name from the mechanism's.

    Raises:
        OptionError: If the name that was asked for is taken, or is no plain word.
    """
    taken = attachments(model)
    reserved = nn.ModuleDict()  # an instance: it has attributes that the class has not
    if wanted is not None:
        is_word = isinstance(wanted, str) and wanted.isidentifier()  # pyright: ignore[reportUnnecessaryIsInstance]
        plain = is_word and not iskeyword(wanted) and "__" not in wanted
        if not plain or hasattr(reserved, wanted):
            raise OptionError(f"an attachment is named by a plain word such as 'day' or 'set_2', not {wanted!r}")
        if wanted in taken:
            raise OptionError(f"there is an attachment called '{wanted}' already: choose another name or detach it")
        return wanted
    if isinstance(attention, Spec):
        name = attention.name
    else:
        name = re.sub(r"\W+|__+", "_", factory_name(attention)).strip("_").lower() or "attention"
    number = 2
    free = name
    while free in taken or hasattr(reserved, free) or iskeyword(free):
        free, number = f"{name}_{number}", number + 1
    return free
