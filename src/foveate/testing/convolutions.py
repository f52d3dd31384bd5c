"""Checks of what stands in a convolution's place."""

from __future__ import annotations

import re

import torch

from foveate.errors import FoveateError
from foveate.replacement import ConvShape, Replacement
from foveate.testing.expect import ContractError, expect, expect_close, expect_finite
from foveate.testing.gradients import stuck_at_start
from foveate.testing.subject import Size, Subject

# Convolutions as networks have them: strided, pointwise, wide, dilated, grouped, depthwise, of one side only, unpadded.
SHAPES = (
    ConvShape.same(8, 3),
    ConvShape(16, 24, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=True),
    ConvShape(24, 16, stride=(2, 2)),
    ConvShape(8, 16, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3)),
    ConvShape(16, 16, kernel_size=(3, 3), padding=(2, 2), dilation=(2, 2)),
    ConvShape(16, 32, kernel_size=(3, 3), padding=(1, 1), groups=4),
    ConvShape(16, 16, kernel_size=(3, 3), padding=(1, 1), groups=16, bias=True),
    ConvShape(16, 16, kernel_size=(1, 5), padding=(0, 2)),
    ConvShape(16, 16, kernel_size=(2, 2), stride=(2, 2)),
    ConvShape(16, 16, kernel_size=(3, 3)),
)
SIZES: tuple[Size, ...] = ((9, 12), (7, 7))


def starts_as_its_convolution(subject: Subject) -> None:
    """After ``take_over`` it computes what the convolution does, to rounding, and all parameters move within two steps.

    Or it says in a sentence why it cannot, and then it does something else indeed.
    """
    for seed, shape in enumerate(SHAPES):
        module = _made(subject, shape, seed)
        if module is None:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            conv = shape.convolution().double()
        reason = module.double().take_over(conv)
        x = subject.input(4, shape.in_channels, SIZES[0], dtype=torch.float64, seed=seed)
        for training in (True, False):
            with torch.no_grad():
                y, expected = module.train(training)(x.clone()), conv(x)
            mode = "training" if training else "evaluation"
            if reason is None:
                expect_close(y, expected, f"having taken over a {shape}, the output in {mode} mode")
                continue
            expect(_is_sentence(reason), f"why it cannot take over a convolution must be a sentence, not {reason!r}")
            same = torch.allclose(y, expected, rtol=1e-9, atol=1e-9)
            expect(not same, f"it says that it cannot do what a {shape} does ('{reason}'), and does it")
        before = {key: value.clone() for key, value in module.state_dict().items()}
        module.take_over(conv)
        for key, value in module.state_dict().items():
            expect(torch.equal(value, before[key]), f"taken over again, {key} is another: it cannot be seen untouched")
        stuck = stuck_at_start(module.train(), subject.input(8, shape.in_channels, SIZES[0], dtype=torch.float64))
        expect(not stuck, f"from its convolution on, {', '.join(stuck)} gets no gradient in the first two steps")


def any_convolution(subject: Subject) -> None:
    """Strides, paddings, dilations, groups, other channels out than in: the convolution's shape, or a clear refusal."""
    made = 0
    for shape in SHAPES:
        module = _made(subject, shape, 0)
        if module is None:
            continue
        made += 1
        for size in (*SIZES, (shape.least, shape.least)):
            tied_to = module.fixed_size
            if tied_to is not None and tied_to != size:
                module = _made(subject, shape, 0, size) or module
            for training in (True, False):
                x = subject.input(2, shape.in_channels, size)
                with torch.no_grad():
                    y = module.train(training)(x)
                due = (2, shape.out_channels, *shape.out_size(size))
                where = f"a {shape} of {size[0]}×{size[1]}"
                expect(y.shape == due, f"for {where} the output has the shape {tuple(y.shape)}, not {due}")
                expect_finite(y, f"the output for {where}")
    expect(made > 0, "it refuses every convolution")


def _made(subject: Subject, shape: ConvShape, seed: int, size: Size = SIZES[0]) -> Replacement | None:
    """The module for a convolution; ``None`` where it refuses with a sentence."""
    try:
        module = subject.build(shape, size, seed=seed)
    except FoveateError as error:
        expect(_is_sentence(str(error)), f"refusing a {shape}, it says no more than {str(error)!r}")
        return None
    if not isinstance(module, Replacement):
        raise ContractError(f"{type(module).__name__} is no foveate.replacement.Replacement")
    return module


def _is_sentence(text: object) -> bool:
    return isinstance(text, str) and len(re.findall(r"\w+", text)) >= 4
