"""Checks of what a mechanism can be told."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor

from foveate.errors import OptionError
from foveate.registry import names, spec
from foveate.testing.expect import ContractError, expect
from foveate.testing.subject import Subject, fixed_size, wake

_WIDE = 512


def every_option_acts(subject: Subject) -> None:
    """Every option changes something: the parameters, the output, or the sizes that are accepted."""
    base = _footprint(subject) if subject.options else {}
    for name, parameter in subject.options.items():
        given = subject.values.get(name)
        complete = given is not None or _is_closed(parameter)
        values = list(_others(parameter, subject.given.get(name, parameter.default))) if given is None else given
        outcomes: dict[str, bool] = {}
        for value in values:
            try:
                outcomes[repr(value)] = _differ(base, _footprint(subject, **{name: value}))
            except ValueError:  # OptionError is one; a guessed value may well be refused
                if given is not None:
                    raise
        if not outcomes:
            raise ContractError(f"nothing is known to try {name} with: give `values` for it")
        idle = [value for value, acts in outcomes.items() if not acts]
        ignored = bool(idle) if complete else len(idle) == len(outcomes)
        expect(not ignored, f"{name}={' or '.join(idle)} changes neither parameters, nor output, nor sizes")


def misspelt_option_raises(subject: Subject) -> None:
    """An option that does not exist raises, by its registered name with the nearest that does."""
    for option in [*subject.options, "reductoin"]:
        misspelt = option if option not in subject.options else option + option[-1]
        try:
            subject.build(None, None, **{misspelt: 1})
        except (TypeError, ValueError):
            pass
        else:
            raise ContractError(f"it accepts an option that it does not have: {misspelt}")
        if subject.card is None or subject.card.name not in names() or option not in subject.options:
            continue
        try:
            spec(subject.card.name, **{misspelt: 1})
        except OptionError as error:
            expect(f"'{option}'" in str(error), f"refusing {misspelt}, the error does not suggest {option}: {error}")
        else:
            raise ContractError(f"foveate.spec('{subject.card.name}') accepts the misspelt option {misspelt}")


def _footprint(subject: Subject, **options: Any) -> dict[str, Tensor]:
    """Everything that an option could change: fresh state, outputs in both modes, state after training."""
    module = subject.build(**options)
    tied_to = fixed_size(module)
    found = {f"fresh {key}": value.clone() for key, value in module.state_dict().items()}
    found["size"] = torch.tensor(tied_to or (0, 0))
    found |= {f"learns {name}": torch.tensor(p.requires_grad) for name, p in module.named_parameters()}
    with torch.device("meta"), suppress(ValueError):  # a floor, such as that of a bottleneck, hides what acts above it
        wide = subject.build(_WIDE, **options).state_dict()
        found |= {f"shape of {key} at {_WIDE} channels": torch.tensor(v.shape, device="cpu") for key, v in wide.items()}
    wake(module)
    axes = options.get("dimensions", 2)  # of positions; the input has as many
    sizes: list[Any] = [subject.size] if tied_to else [(*subject.size, 3)[:axes], (13, 12, 5)[:axes]]
    for size in sizes:
        for training in (False, True):
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                found[f"output {size} {training}"] = module.train(training)(subject.input(size=size))
    return found | {f"trained {key}": value for key, value in module.state_dict().items()}


def _differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() != other.keys() or any(
        not torch.equal(one[key].nan_to_num(), other[key].nan_to_num()) for key in one
    )


def _is_closed(parameter: inspect.Parameter) -> bool:
    """Whether the type lists all values, so that every one of them must do something."""
    return isinstance(parameter.default, bool) or get_origin(parameter.annotation) is Literal


def _others(parameter: inspect.Parameter, current: Any) -> Iterator[Any]:
    """Values besides the current one, guessed from the option's type."""
    kinds: list[Any] = [parameter.annotation]
    if get_origin(parameter.annotation) in (Union, types.UnionType):
        kinds = list(get_args(parameter.annotation))
    guesses: list[Any] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            guesses += get_args(kind)
    if isinstance(current, bool) or bool in kinds:
        guesses += [True, False]
    elif isinstance(current, int):
        guesses += [current // 2, current * 2, current + 2, current - 2, current + 1, 1]
    elif isinstance(current, float):
        guesses += [current / 2, current * 2]
    elif isinstance(current, tuple) and len(current) > 1:
        guesses += [current[:1], current[::-1]]
        if all(isinstance(value, int) for value in current):  # a height and a width that are equal, say
            guesses.append(tuple(value + 1 for value in current))
    elif current is None:
        known = {int: [3, 2, 5], float: [0.5, 2.0], tuple[int, int]: [(3, 3), (2, 2)]}
        guesses += [guess for kind in kinds for guess in known.get(kind, [])]
    yield from (guess for guess in guesses if guess != current)
