"""Patterns: how a person names modules of a network, by paths, globs, regular expressions and functions."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence

from torch import nn

from foveate.errors import OptionError
from foveate.surgery.attended import ATTENTION, HOST, Attended, host_path

# what Python's translation of a glob puts around it, which differs between its versions
_OPENS = fnmatch.translate("x").index("x")
_CLOSES = len(fnmatch.translate("x")) - _OPENS - 1
At = str | re.Pattern[str] | Callable[[str, nn.Module], bool]


def listed(patterns: At | Sequence[At]) -> list[At]:
    """One pattern or several, as a list.

    Raises:
        OptionError: If one of them is no pattern.
    """
    every = [patterns] if isinstance(patterns, str | re.Pattern) or callable(patterns) else patterns
    if not isinstance(every, list | tuple | set) or not all(  # pyright: ignore[reportUnnecessaryIsInstance]
        isinstance(pattern, str | re.Pattern) or callable(pattern) for pattern in every
    ):
        raise OptionError(
            f"a place is named by a preset, a path, a glob, a regular expression or a function, not {patterns!r}"
        )
    return list(every)


def whole(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """The expression that a whole path must match: a regular one as it is, a path or glob translated."""
    return re.compile(_glob(pattern)) if isinstance(pattern, str) else pattern


def shown(pattern: At) -> str:
    """A pattern as it stands at the beginning of a sentence about it."""
    if isinstance(pattern, str | re.Pattern):
        return f"'{pattern if isinstance(pattern, str) else pattern.pattern}'"
    return f"the function {getattr(pattern, '__name__', '')}".strip()


def wider(pattern: At, names: Sequence[str]) -> str:
    """For a glob or path that matches nothing: one that does, as the end of a sentence; empty if none is near.

    Example:
        >>> wider("layer4.*", ["layer4.0.conv1", "layer4.0.conv2"])
        "'*' stops at a dot: 'layer4.**' matches 2, such as 'layer4.0.conv1'"
    """
    if not isinstance(pattern, str):
        return ""
    levels = ["**" if level == "*" else level for level in pattern.split(".")]
    for tried in (".".join(levels), ".".join([*levels, "**"]), ".".join(["**", *levels])):
        found = [name for name in names if whole(tried).fullmatch(name)]
        if found and tried != pattern:
            why = "'*' stops at a dot: " if "*" in pattern else ""
            return f"{why}'{tried}' matches {len(found)}, such as '{found[0]}'"
    return ""


def host_modules(model: nn.Module) -> list[str]:
    """The host's modules by their present path; one that carries attention is its wrapper, so that more can follow."""
    wrappers = [path for path, module in model.named_modules() if isinstance(module, Attended)]
    inner = tuple(f"{path}.{ATTENTION}" for path in wrappers)
    wrapped = {f"{path}.{HOST}" for path in wrappers}
    return [
        path
        for path, _ in model.named_modules()
        if path and path not in wrapped and not any(path == i or path.startswith(f"{i}.") for i in inner)
    ]


def host_name(model: nn.Module, path: str) -> str:
    """A present path as the host knows it; also that of an attribute at which it has no module yet."""
    parent, _, name = path.rpartition(".")
    return ".".join(filter(None, (host_path(model, parent), name)))


def _glob(pattern: str) -> str:
    """Translate a glob over dotted paths: ``*``, ``?`` and ``[...]`` within a level, ``**`` across levels."""
    parts: list[str] = []
    for name in pattern.split("."):
        if name == "**":
            parts.append(r"[^.]+(?:\.[^.]+)*")
        else:
            # a dot here is any character, and so is what a class leaves out: neither may be the end of a level
            parts.append(fnmatch.translate(name)[_OPENS:-_CLOSES].replace(".", "[^.]").replace("[^", "[^."))
    return r"\.".join(parts)
