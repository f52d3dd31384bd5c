"""Watching one forward pass, and noting it as calls and values (:mod:`foveate.surgery.places.passes`).

A network is not read from tables of known architectures; it is run once on an example, and what happens is noted.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from foveate.attention import Attention
from foveate.errors import PlaceError
from foveate.fusion import Pair
from foveate.replacement import Replacement
from foveate.surgery.attended import ATTENTION, HOST, Attended
from foveate.surgery.foreign import recognise
from foveate.surgery.places.axes import channel_axis
from foveate.surgery.places.passes import LAYERS, Call, Pass, Value

_ATTENTION = (Attention, Pair, Replacement)


def watch(model: nn.Module, example: Any) -> Pass:
    """Run a network once on an example and note what happens. The network is left as it was.

    Runs in evaluation mode without gradients, so that no statistic and no random stream moves.

    Args:
        model: The network.
        example: An input, batch first, on the network's device; a tuple of positional or a dictionary of keyword
            arguments for a network that takes several.

    Raises:
        PlaceError: If the network does not run on the example.
    """
    args, kwargs = arguments(example)
    training = {module: module.training for module in model.modules()}
    observer = _Observer(args, kwargs)
    try:
        model.eval()
        with _undisturbed(model), observer.listening_to(model), observer:
            model(*args, **kwargs)
    except PlaceError:
        raise
    except Exception as error:
        shape = getattr(example, "shape", None)  # a list is an example too, where the network takes it
        shown = f"type {type(example).__name__}" if shape is None else "×".join(map(str, shape))
        raise PlaceError(
            f"the network does not run on an example of {shown} ({type(error).__name__}: {error}); "
            "give one that it runs on: example=torch.zeros(...)"
        ) from error
    finally:
        for module, flag in training.items():
            module.training = flag
    own = (path for path, module in model.named_modules() if isinstance(module, _ATTENTION) or recognise(module))
    return Pass(
        root=observer.calls[-1],
        calls=observer.calls,
        values=observer.values,
        modules=observer.modules,
        attention=frozenset(own),
        acted=frozenset(observer.acted),
    )


@contextmanager
def _undisturbed(model: nn.Module) -> Generator[None]:
    """Without gradients, eagerly, and with the random stream where it was afterwards."""
    devices = {parameter.device.index or 0 for parameter in model.parameters() if parameter.device.type == "cuda"}
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and to import it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.random.fork_rng(devices=sorted(devices)))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An example as the arguments of a call."""
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example,), {}


class _Observer(TorchFunctionMode):
    """Sees every operation of a forward pass, and with its hooks every module."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.inputs = list(tensors_in((args, kwargs)))
        self.calls: list[Call] = []
        self.values: list[Value] = []
        self.modules: dict[str, nn.Module] = {}
        self.running: list[Call] = []
        self.attention: tuple[str, ...] = ()
        self.acted: set[str] = set()
        self.known = WeakTensorKeyDictionary()
        self.versions = WeakTensorKeyDictionary()

    @contextmanager
    def listening_to(self, model: nn.Module) -> Generator[None]:
        """Hooks on every module, for as long as the ``with`` lasts."""
        handles: list[Any] = []
        for tensor in self.inputs:
            self._note(tensor, "", (), from_input=True)
        try:
            wrappers = [path for path, module in model.named_modules() if isinstance(module, Attended)]
            self.attention = tuple(f"{path}.{ATTENTION}.".lstrip(".") for path in wrappers)  # the network may be one
            for path in self.attention:
                for key, attention in model.get_submodule(path.removesuffix(".")).named_children():
                    handles.append(attention.register_forward_pre_hook(self._acting(path + key), with_kwargs=True))
            for path, module in model.named_modules():
                # a scripted module takes no hooks, and what attention does inside is not the host's
                if isinstance(module, torch.jit.ScriptModule) or path.startswith(self.attention):
                    continue
                handles.append(module.register_forward_pre_hook(self._entering(path), with_kwargs=True, prepend=True))
                handles.append(module.register_forward_hook(self._leaving(path), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = list(tensors_in((args, kwargs or {})))
        sources = tuple(self._value(tensor) for tensor in given)
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        made = list(tensors_in(result))  # several where a map is split
        for out in made if name != "__setitem__" else given[:1]:
            same = any(out is tensor for tensor in given)
            if not same or self.versions.get(out) != _version(out):
                self._note(out, name, sources, axis=channel_axis(name, args, kwargs or {}, sources, out))
                whole = out._base if same else None
                if whole is not None:  # a part of it was written
                    self._note(whole, name, (self._value(whole), *sources))
        return result

    def _acting(self, path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any) -> None:
            self.acted.add(path)

        return hook

    def _entering(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            arguments = (*enumerate(args), *kwargs.items())
            given = {key: self._value(value) for key, value in arguments if isinstance(value, Tensor)}
            nested = {
                f"{key}[{number}]": self._value(tensor)
                for key, value in arguments
                if not isinstance(value, Tensor)
                for number, tensor in enumerate(tensors_in(value))
            }
            parent = self.running[-1] if self.running else None
            call = Call(path, parent, len(self.values), {**given, **nested})
            if parent is not None:
                parent.children.append(call)
            self.modules[path] = module
            self.running.append(call)

        return hook

    def _leaving(self, path: str) -> Any:
        def hook(module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            call = self.running.pop()
            self.calls.append(call)
            call.end = len(self.values)
            call.alone = isinstance(output, Tensor)
            for tensor in tensors_in(output):
                value = self._value(tensor, tuple(call.given.values()))
                value.returned_by.append(call)
                call.returned.append(value)
            if isinstance(module, Attended) and module.foveate_slots:
                _as_without_fusion(call, f"{path}.{HOST}".lstrip("."))

        return hook

    def _value(self, tensor: Tensor, sources: tuple[Value, ...] = ()) -> Value:
        """The present value of a tensor; one that was made or changed unseen came from these sources."""
        if tensor not in self.known or (sources and self.versions[tensor] != _version(tensor)):
            self._note(tensor, "", sources)
        return self.known[tensor]

    def _note(
        self,
        tensor: Tensor,
        operation: str,
        sources: tuple[Value, ...],
        *,
        axis: int | None = None,
        from_input: bool = False,
    ) -> None:
        like = next((value for value in sources if value.from_input), None)
        if axis is None:
            axis = like.axis if like is not None and len(like.shape) == tensor.ndim else 1
        positions = _positions(tensor, axis)
        # what is broadcast, such as a gate, makes a map neither coarser nor deeper; what it was resampled from does
        made_from = [value for value in sources if value.from_input]
        whole = [value for value in made_from if math.prod(value.shape) == tensor.numel()]
        alike = [value for value in made_from if positions and value.positions == positions]
        depth = max((one.depth for one in whole or made_from), default=0) + (operation in LAYERS)
        kernel = next((one.shape[2:] for one in sources if not one.from_input), ()) if operation in LAYERS else ()
        wide = any(side > 1 for side in kernel)
        coarsest = [one.coarsest for one in whole or alike or made_from if one.coarsest]
        value = Value(
            serial=len(self.values),
            operation=operation,
            sources=sources,
            shape=tuple(tensor.shape),
            axis=axis,
            dtype=tensor.dtype,
            device=tensor.device,
            from_input=from_input or like is not None,
            depth=depth,
            reach=max((one.reach for one in whole or made_from), default=0) + wide,
            positions=positions,
            coarsest=min(coarsest + ([positions] if positions and depth else []), default=0),
            call=self.running[-1] if self.running else None,
        )
        for source in dict.fromkeys(sources):
            source.uses.append(value)
        self.values.append(value)
        self.known[tensor] = value
        self.versions[tensor] = _version(tensor)


def _as_without_fusion(call: Call, host: str) -> None:
    """What a fusion changed lies where the host's map lay: its partner's way is no way of this operand."""
    before = next((child.returned for child in reversed(call.children) if child.path == host), [])
    for value, original in zip(call.returned, before, strict=False):
        value.depth, value.reach, value.coarsest = original.depth, original.reach, original.coarsest


def _positions(tensor: Tensor, axis: int) -> int:
    if tensor.ndim < 3 or (tensor.ndim == 3 and axis == 2) or not tensor.numel():
        return 0
    return tensor.numel() // (tensor.shape[0] * tensor.shape[axis])


def _version(tensor: Tensor) -> int:
    """Counts the changes in place; parameters of a network that was made for inference do not count them."""
    return 0 if tensor.is_inference() else tensor._version


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
