"""Checks of the feature maps that a mechanism takes."""

from __future__ import annotations

import re

import torch
from torch import nn

from foveate.errors import FoveateError
from foveate.testing.expect import ContractError, expect, expect_finite
from foveate.testing.subject import Size, Subject, fixed_size

CHANNELS = (1, 3, 7, 16, 31, 64)
SIZES: tuple[Size, ...] = ((1, 1), (1, 5), (5, 1), (2, 2), (7, 7), (13, 13), (32, 48))


def any_channels(subject: Subject) -> None:
    """Any number of channels works, or the error names the nearest that does."""
    for channels in CHANNELS:
        try:
            module = subject.build(channels)
        except ValueError as error:  # OptionError is one
            _check_refusal(subject, channels, error)
            continue
        for training in (False, True):
            _check_run(subject, module.train(training), channels, subject.size, 2)


def any_size(subject: Subject) -> None:
    """Any height and width works, 1×1 and odd ones too; a mechanism tied to one size says which."""
    made_once = subject.build(4) if _builds(subject, 4) else subject.build()
    channels = 4 if _builds(subject, 4) else subject.channels
    for size in SIZES:
        if fixed_size(made_once) is None:
            _check_run(subject, made_once.eval(), channels, size, 2)
        elif size != fixed_size(made_once):
            _check_other_size(subject, made_once, channels, size)
        for training in (False, True):
            _check_run(subject, subject.build(channels, size).train(training), channels, size, 2)


def trains_on_one_sample(subject: Subject) -> None:
    """A training batch of one sample works, even on a 1×1 map: the last batch of an epoch may be one."""
    for size in ((1, 1), (2, 2), subject.size):
        module = subject.build(size=size).train()
        x = subject.input(1, size=size).requires_grad_()
        y = module(x.clone())
        y.sum().backward()
        where = f"one sample of {size[0]}×{size[1]} in training mode"
        expect_finite(y, f"the output for {where}")
        for name, leaf in {"the input": x, **dict(module.named_parameters())}.items():
            if leaf.grad is not None:
                expect_finite(leaf.grad, f"the gradient of {name} for {where}")


def takes_positions_as_it_says(subject: Subject) -> None:
    """Where it says that positions have no order, moving them moves its output alike; other dimensions run."""
    module = subject.awake()
    if getattr(module, "unordered", False):
        x = subject.input(dtype=torch.float64)
        order = torch.randperm(x[0, 0].numel(), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            moved = module(x.flatten(2)[:, :, order].reshape(x.shape))
            expected = module(x).flatten(2)[:, :, order].reshape(x.shape)
        # sums over positions are taken in another order: each rounds by eps at most once a position
        bound = torch.finfo(torch.float64).eps * x[0, 0].numel() * (1 + float(expected.abs().max()))
        far = float((moved - expected).abs().max())
        expect(far <= bound, f"it is called unordered, and moving positions changes its output by {far:.1e}")
    if "dimensions" in subject.options:
        for dimensions in (1, 2, 3):
            size = (5, 6, 7)[:dimensions]
            x = subject.input(2, size=size)  # type: ignore[arg-type]
            for training in (False, True):
                y = subject.build(dimensions=dimensions).train(training)(x)
                expect(y.shape == x.shape, f"with dimensions={dimensions} {tuple(x.shape)} becomes {tuple(y.shape)}")


def _check_run(subject: Subject, module: nn.Module, channels: int, size: Size, batch: int) -> None:
    x = subject.input(batch, channels, size)
    with torch.no_grad():
        y = module(x)
    where = f"{channels} channels of {size[0]}×{size[1]} in {'training' if module.training else 'evaluation'} mode"
    expect(y.shape == x.shape, f"for {where} and a batch of {batch} the output has the shape {tuple(y.shape)}")
    expect_finite(y, f"the output for {where}")


def _check_other_size(subject: Subject, module: nn.Module, channels: int, size: Size) -> None:
    try:
        module.eval()(subject.input(2, channels, size))
    except FoveateError as error:
        numbers = set(re.findall(r"\d+", str(error)))
        for length in (*size, *(fixed_size(module) or ())):
            expect(str(length) in numbers, f"refusing a map of {size}, the error does not say both sizes: {error}")
    else:
        raise ContractError(f"it is tied to maps of {fixed_size(module)}, and runs on {size} all the same")


def _check_refusal(subject: Subject, channels: int, error: ValueError) -> None:
    named = {int(number) for number in re.findall(r"\d+", str(error))} - {channels, 0}
    works = [count for count in named if _builds(subject, count)]
    if not works:
        raise ContractError(f"refusing {channels} channels, the error names no count that works: {error}") from error
    nearest = min(abs(count - channels) for count in works)
    for closer in range(max(1, channels - nearest + 1), channels + nearest):
        if _builds(subject, closer):
            raise ContractError(f"{closer} channels are nearer to {channels} than the error says: {error}") from error


def _builds(subject: Subject, channels: int) -> bool:
    try:
        subject.build(channels)
    except ValueError:
        return False
    return True
