"""Places: where in a network attention can go, named by what the network does there or by a pattern."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate import hosts
from foveate.errors import OptionError, PlaceError, nearest
from foveate.surgery.attended import ATTENTION, HOST, Attended, host_path
from foveate.surgery.point import Point
from foveate.surgery.watch import Output, watch

At = str | re.Pattern[str] | Callable[[str, nn.Module], bool]
PRESETS = ("residual",)


@dataclass(frozen=True)
class Place:
    """A module of the network whose output attention can act on.

    Attributes:
        path: The module's path in the network, as the host's ``state_dict`` has it.
        module: The module.
        output: What it returned when the network was watched.
        stage: Which of the network's resolutions it works at, counted from 1 among the places found.
    """

    path: str
    module: nn.Module
    output: Output
    stage: int
    point: Point = Point()

    @property
    def channels(self) -> int:
        """Channels of the feature map."""
        return self.output.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the feature map when the network was watched."""
        return self.output.shape[2], self.output.shape[3]


def find_places(
    model: nn.Module,
    at: At | Sequence[At],
    example: Tensor | None = None,
    stages: int | Iterable[int] | None = None,
    exclude: At | Sequence[At] = (),
) -> list[Place]:
    """The places that the patterns name, in the order of the network's modules.

    Args:
        model: The network.
        at: ``"residual"`` (after the last module of each residual branch, before the addition), a path or glob
            (``*`` stays within one level, ``**`` crosses levels), a compiled regular expression that matches whole
            paths, a function of path and module, or a list of such.
        example: An input to watch one forward pass with.
        stages: Only places of these stages, counted from 1 by resolution.
        exclude: Patterns of places to leave out.

    Raises:
        PlaceError: If a pattern matches nothing, or only what cannot carry attention; with the nearest names.
    """
    watched = watch(model, default_example(model) if example is None else example)
    modules = _host_modules(model)
    names = {path: host_path(model, path) for path in modules}
    candidates = {names[path]: modules[path] for path in watched.outputs if path in modules}
    residuals = {host_path(model, _carrier(model, path)) for path in watched.residuals if path is not None}

    chosen: set[str] = set()
    for pattern in _listed(at):
        chosen |= _matching(pattern, candidates, set(names.values()), residuals)
    for pattern in _listed(exclude):
        chosen -= _matching(pattern, candidates, set(names.values()), residuals)
    if not chosen:
        raise PlaceError("nothing is left: `at` names nothing that is not excluded")

    found = [path for path in watched.outputs if names.get(path) in chosen]
    outputs = {path: _only_output(names[path], watched.outputs[path]) for path in found}
    sizes = list(dict.fromkeys(output.shape[2:] for output in outputs.values()))
    places = [
        Place(names[path], modules[path], outputs[path], sizes.index(outputs[path].shape[2:]) + 1) for path in found
    ]
    return places if stages is None else _of_stages(places, stages, len(sizes))


def _host_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The host's modules by their present path; one that carries attention is its wrapper, so that more can follow."""
    wrappers = [path for path, module in model.named_modules() if isinstance(module, Attended)]
    inner = tuple(f"{path}.{ATTENTION}" for path in wrappers)
    hosts = {f"{path}.{HOST}" for path in wrappers}
    return {
        path: module
        for path, module in model.named_modules()
        if path and path not in hosts and not any(path == i or path.startswith(f"{i}.") for i in inner)
    }


def _carrier(model: nn.Module, path: str) -> str:
    """The wrapper whose attention made a tensor, or the module itself if no attention did."""
    names = path.split(".")
    for end, name in enumerate(names):
        above = ".".join(names[:end])
        if name == ATTENTION and isinstance(model.get_submodule(above), Attended):
            return above
    return path.removesuffix(f".{HOST}") if isinstance(_parent(model, path), Attended) else path


def _parent(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path.rpartition(".")[0])


def _matching(pattern: At, candidates: dict[str, nn.Module], everything: set[str], residuals: set[str]) -> set[str]:
    if pattern == "residual":
        if not residuals:
            raise PlaceError(
                "no residual branch that ends in a module was seen in this network; name places by pattern instead, "
                f"for instance at='{next(iter(candidates), 'layer*')}'"
            )
        return residuals
    if callable(pattern):
        shown = f"the function {getattr(pattern, '__name__', '')}".strip()
        bare = {path: m.foveate_host if isinstance(m, Attended) else m for path, m in candidates.items()}
        found = {path for path, module in bare.items() if pattern(path, module)}
        without_map = set[str]()
    else:
        shown = f"'{pattern if isinstance(pattern, str) else pattern.pattern}'"
        whole = re.compile(_glob(pattern)) if isinstance(pattern, str) else pattern
        found = {path for path in candidates if whole.fullmatch(path)}
        without_map = {path for path in everything if whole.fullmatch(path)} - found
    if not found and without_map:
        raise PlaceError(
            f"{shown} matches {', '.join(sorted(without_map)[:3])}, which returned no feature map "
            "(batch, channels, height, width) in the pass that was watched"
        )
    if not found:
        near = nearest(pattern, (*PRESETS, *candidates)) if isinstance(pattern, str) else ""
        raise PlaceError(f"{shown} matches no module of this network; {near}".rstrip("; "))
    return found


def _glob(pattern: str) -> str:
    """Translate a glob over dotted paths: ``*`` within a level, ``**`` across levels."""
    parts: list[str] = []
    for name in pattern.split("."):
        if name == "**":
            parts.append(r"[^.]+(?:\.[^.]+)*")
        else:
            parts.append(fnmatch.translate(name).removeprefix("(?s:").removesuffix(r")\Z").replace(".*", "[^.]*"))
    return r"\.".join(parts)


def _only_output(path: str, outputs: list[Output]) -> Output:
    if len(outputs) > 1:
        raise PlaceError(
            f"'{path}' runs {len(outputs)} times in one pass, so attention there would act on different features with "
            "one set of weights; name a module that runs once"
        )
    if len(outputs[0].shape) != 4:
        raise PlaceError(
            f"'{path}' returns {len(outputs[0].shape)} axes; attention acts on maps of four "
            "(batch, channels, height, width)"
        )
    return outputs[0]


def _of_stages(places: list[Place], wanted: int | Iterable[int], count: int) -> list[Place]:
    listed = [wanted] if isinstance(wanted, int) else list(wanted)
    if not listed or not all(isinstance(stage, int) for stage in listed):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"stages are whole numbers, as [3, 4], not {wanted!r}")
    stages = set(listed)
    unknown = sorted(stages - set(range(1, count + 1)))
    if unknown:
        raise PlaceError(f"there is no stage {unknown[0]}; the places found lie in stages 1 to {count}")
    return [place for place in places if place.stage in stages]


def _listed(patterns: At | Sequence[At]) -> list[At]:
    listed = [patterns] if isinstance(patterns, str | re.Pattern) or callable(patterns) else patterns
    if not isinstance(listed, list | tuple | set) or not all(  # pyright: ignore[reportUnnecessaryIsInstance]
        isinstance(pattern, str | re.Pattern) or callable(pattern) for pattern in listed
    ):
        raise OptionError(
            f"a place is named by a preset, a path, a glob, a regular expression or a function, not {patterns!r}"
        )
    return list(listed)


def default_example(model: nn.Module) -> Tensor:
    """An input that the usual image network runs on."""
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    channels, height, width = hosts.input_shape(model)
    return torch.zeros(
        1,
        channels,
        height,
        width,
        device=None if like is None else like.device,
        dtype=None if like is None else like.dtype,
    )
