"""Checks of manners: what a mechanism leaves as it found it."""

from __future__ import annotations

import torch

from foveate.testing.expect import expect, expect_close
from foveate.testing.paired import Paired
from foveate.testing.subject import Subject


def keeps_its_input(subject: Subject) -> None:
    """The input is not modified: the shortcut around a residual branch may still need it."""
    for training in (False, True):
        module = subject.awake(dtype=torch.float32).train(training)
        x = subject.input()
        paired = isinstance(module, Paired)
        given = (x, module.partner(x)) if paired else (x,)
        before = [(one.clone(), one._version) for one in given]  # pyright: ignore[reportPrivateUsage]
        with torch.no_grad():
            (module.mechanism if paired else module)(*given)
        for one, (value, version) in zip(given, before, strict=True):
            expect(torch.equal(one, value), f"it changes its input, by up to {(one - value).abs().max().item():.2g}")
            expect(one._version == version, "it writes into its input")  # pyright: ignore[reportPrivateUsage]


def keeps_samples_apart(subject: Subject) -> None:
    """In evaluation mode the output for a sample does not depend on the others in the batch."""
    module = subject.awake()
    x = subject.input(3, dtype=torch.float64)
    others = 10 * subject.input(3, dtype=torch.float64, seed=1)
    others[1] = x[1]
    with torch.no_grad():
        together, elsewhere, alone = (module(batch.clone()) for batch in (x, others, x[1:2]))
    expect_close(elsewhere[1], together[1], "the output for a sample, its batch-mates exchanged,")
    expect_close(alone[0], together[1], "the output for a sample on its own")


def keeps_channels_last(subject: Subject) -> None:
    """Features in channels_last memory stay so, and contiguous ones too, with the same values."""
    for training in (False, True):
        outputs: list[torch.Tensor] = []
        for layout in (torch.contiguous_format, torch.channels_last):
            module = subject.awake().train(training).to(memory_format=layout)
            x = subject.input(dtype=torch.float64).to(memory_format=layout)
            with torch.no_grad():
                y = module(x)
            expect(
                y.is_contiguous(memory_format=layout),
                f"an input of strides {x.stride()} ({str(layout).removeprefix('torch.')}) "
                f"becomes an output of strides {y.stride()}",
            )
            outputs.append(y)
        expect_close(outputs[1], outputs[0], "the output in channels_last memory")


def draws_nothing(subject: Subject) -> None:
    """In evaluation mode the global random stream stays where it is."""
    module = subject.awake(dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        before = torch.random.get_rng_state()
        with torch.no_grad():
            module(subject.input())
        expect(
            torch.equal(torch.random.get_rng_state(), before),
            "in evaluation mode it draws from the global random stream",
        )
