"""What is checked of a network with a mechanism attached: each check passes, fails with a sentence, or is not run.

The order matters: the first ones look at a network whose attention has just been attached, those from ``gradients`` on
at a copy of it that learned for two steps, so that attention which is skipped somewhere cannot go unnoticed.
"""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import foveate
from foveate.surgery.attended import ATTENTION, Attended, attended_places, host_path

from . import trees
from .attachment import Attachment, NotRun
from .capture import captured, inductor, without_attention
from .hosts import Host, public_attributes
from .learning import gradients


@dataclass(frozen=True)
class Outcome:
    """What came of a check: whether it passed (``None``: not run), why not, and the processor's seconds."""

    name: str
    passed: bool | None
    why: str
    seconds: float


Check = Callable[[Attachment], None]
MARK = f".{ATTENTION}."
# by these a module folds itself for inference; with attention around it, whoever looks for them must not find them
REWRITES = ("fuse", "reparameterize", "switch_to_deploy")


def identity(made: Attachment) -> None:
    """The output is bit for bit what it was."""
    assert trees.same(made.host.run(), made.host.output), "the output changed"


def keys(made: Attachment) -> None:
    """The host's keys are all there, in their order, with their values; what is new is attention's."""
    state = made.model.state_dict()
    kept = [key for key in state if MARK not in f".{key}" or key in made.host.state]
    assert kept == list(made.host.state), f"keys changed: {_difference(kept, made.host.state)}"
    _check_values(state, made.host.state)
    assert len(state) > len(kept), "attention has no keys"


def attributes(made: Attachment) -> None:
    """Every module is found under its path, and answers every public name as it did, but those that fold it."""
    for path, module in made.host.modules.items():
        found = made.model.get_submodule(path)
        bare = found.foveate_host if isinstance(found, Attended) else found
        assert bare is module, f"'{path}' is a {type(bare).__name__}, and was a {type(module).__name__}"
        assert found.training == module.training, f"'{path}' changed its mode"
        if not isinstance(found, Attended):
            continue
        hidden = [name for name in REWRITES if name in made.host.attributes[path]]
        if hidden:
            made.notes["hidden on purpose"] = ", ".join(hidden)
        for name in made.host.attributes[path].keys() - set(REWRITES):
            assert hasattr(found, name), f"'{path}' no longer answers '{name}'"
            ours, theirs = getattr(found, name), getattr(module, name)
            # a property may make a new object each time it is asked
            assert _alike(ours, theirs) or not _alike(theirs, getattr(module, name)), f"'{path}.{name}' changed"


def strict_loading(made: Attachment) -> None:
    """The host's original checkpoint loads strictly and leaves attention alone; so does the attended one."""
    state = made.model.state_dict()
    attention = {key: value.clone() for key, value in state.items() if key not in made.host.state}
    first = next(key for key, value in state.items() if key in made.host.state and value.is_floating_point())
    with torch.no_grad():
        state[first].add_(1)
    result = made.model.load_state_dict(made.host.state, strict=True)
    assert not result.missing_keys and not result.unexpected_keys, f"keys were reported: {result}"
    after = made.model.state_dict()
    _check_values(after, made.host.state)
    _check_values(after, attention)
    made.model.load_state_dict(copy.deepcopy(after), strict=True)
    _check_values(made.model.state_dict(), {**made.host.state, **attention})


def damaged_attention(made: Attachment) -> None:
    """A checkpoint that lacks one of attention's keys does not load."""
    ours = [key for key in made.model.state_dict() if key not in made.host.state]
    for key in dict.fromkeys((ours[0], ours[-1])):
        _check_refused(made.model, remove=key)


def damaged_host(made: Attachment) -> None:
    """A checkpoint that lacks one of the host's keys, at an attended place and elsewhere, does not load."""
    places = tuple(f"{host_path(made.model, path)}." for path in attended_places(made.model))
    attended = [key for key in made.host.state if key.startswith(places)]
    for key in dict.fromkeys((*attended[:1], *attended[-1:], *list(made.host.state)[:1])):
        _check_refused(made.model, remove=key)


def damaged_shape(made: Attachment) -> None:
    """A checkpoint with a tensor of another shape does not load, whether attention's or the host's."""
    state = made.model.state_dict()
    ours = next(key for key in state if key not in made.host.state)
    theirs = next(key for key, value in made.host.state.items() if value.is_floating_point())
    for key in (ours, theirs):
        _check_refused(made.model, reshape=key)


def acts(made: Attachment) -> None:
    """Attention that has moved changes the output."""
    made.acting()
    assert not trees.same(made.acted, made.host.output), "moved attention does not change the output"


def deepcopied(made: Attachment) -> None:
    """A deep copy computes the same, shares nothing, and its checkpoint makes the original compute the same."""
    twin = copy.deepcopy(made.acting())
    assert trees.same(made.host.run(twin), made.acted), "the copy computes something else"
    mine = {p.data_ptr() for p in made.acting().parameters() if p.numel()}
    assert not any(p.data_ptr() in mine for p in twin.parameters() if p.numel()), "the copy shares memory"


def carried_over(made: Attachment) -> None:
    """The trained copy's checkpoint, loaded strictly into the attended network, makes it compute the same."""
    made.model.load_state_dict(made.acting().state_dict(), strict=True)
    assert trees.same(made.host.run(), made.acted), "after loading the same checkpoint it computes something else"


def pickled(made: Attachment) -> None:
    """A round trip through pickle computes the same."""
    try:
        data = pickle.dumps(made.acting())
    except Exception as error:
        if (reason := _unpicklable(made.host)) != "":
            raise NotRun(f"the host itself cannot be pickled ({reason})") from error
        raise
    assert trees.same(made.host.run(pickle.loads(data)), made.acted), "the restored network computes something else"  # noqa: S301


def detached(made: Attachment) -> None:
    """With attention taken out, modules, keys, hooks and outputs are what they were."""
    if not made.host.is_meta:
        made.model.load_state_dict(made.host.state, strict=True)
    foveate.detach(made.model)
    modules = dict(made.model.named_modules(remove_duplicate=False))
    assert list(modules) == list(made.host.modules), "the modules' paths changed"
    changed = [path for path, module in modules.items() if module is not made.host.modules[path]]
    assert not changed, f"another module stands at {changed[:3]}"
    assert list(made.model.state_dict()) == list(made.host.state), "keys changed"
    _check_values(made.model.state_dict(), made.host.state)
    hooks = [name for m in modules.values() for name in vars(m) if name.startswith("_foveate")]
    assert not hooks, f"left behind: {hooks[:3]}"
    now = {path: set(dict(public_attributes(m))) for path, m in modules.items()}
    assert all(now[path] >= set(names) for path, names in made.host.attributes.items()), "attributes are missing"
    assert trees.same(made.host.run(), made.host.output), "the output changed"


BEFORE_LEARNING: dict[str, Check] = {
    "identity": identity,
    "keys": keys,
    "attributes": attributes,
    "strict_loading": strict_loading,
    "damaged_attention": damaged_attention,
    "damaged_host": damaged_host,
    "damaged_shape": damaged_shape,
}
AFTER_LEARNING: dict[str, Check] = {
    "gradients": gradients,
    "acts": acts,
    "deepcopy": deepcopied,
    "carried_over": carried_over,
    "pickle": pickled,
    "capture": captured,
    "inductor": inductor,
    "detach": detached,
}
# what takes longest; for a large network it runs with one mechanism
HEAVY = ("strict_loading", "damaged_host", "damaged_shape", *(name for name in AFTER_LEARNING if name != "detach"))
# what means nothing without values
OF_VALUES = ("identity", "strict_loading", *(name for name in AFTER_LEARNING if name != "detach"))
CHECKS = ("places", *BEFORE_LEARNING, *AFTER_LEARNING)


def _check_refused(model: nn.Module, *, remove: str = "", reshape: str = "") -> None:
    state = copy.copy(model.state_dict())  # with the versions of its modules, as a saved checkpoint has them
    if remove:
        del state[remove]
    else:
        state[reshape] = state[reshape].new_zeros((*state[reshape].shape, 2))
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError:
        return
    raise AssertionError(f"loaded {'without' if remove else 'with another shape of'} '{remove or reshape}'")


def _check_values(state: dict[str, Any], expected: dict[str, Any]) -> None:
    changed = [key for key, value in expected.items() if not trees.same_value(state[key], value)]
    assert not changed, f"values changed: {', '.join(changed[:3])} ({len(changed)} in all)"


def _difference(found: list[str], expected: dict[str, Any]) -> str:
    missing, new = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return f"missing {missing[:3]}, new {new[:3]}" if missing or new else "their order"


def _alike(a: Any, b: Any) -> bool:
    try:
        return trees.same(a, b)
    except Exception:  # things that cannot be compared are alike if they are of one type
        return type(a) is type(b)


def _unpicklable(host: Host) -> str:
    try:
        pickle.dumps(without_attention(host))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def results(made: Attachment, wanted: Iterable[str]) -> Iterator[Outcome]:
    """Run checks in order."""
    for name in wanted:
        check = BEFORE_LEARNING.get(name) or AFTER_LEARNING[name]
        started = time.process_time()
        passed, why = True, ""
        try:
            check(made)
        except NotRun as reason:
            passed, why = None, str(reason)
        except AssertionError as failure:
            passed, why = False, str(failure)
        except Exception as error:
            passed, why = False, f"{type(error).__name__}: {error}"
        yield Outcome(name, passed, why, time.process_time() - started)
