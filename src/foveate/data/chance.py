"""Random numbers as functions of what they are for, so that nothing depends on what was drawn before."""

from __future__ import annotations

import hashlib

import torch


def generator(purpose: str, *keys: int | str) -> torch.Generator:
    """A random stream of its own for a purpose and some numbers or words; the global stream is left alone.

    Example:
        >>> torch.rand(1, generator=generator("order", 0, 1)) == torch.rand(1, generator=generator("order", 0, 1))
        tensor([True])
    """
    digest = hashlib.sha256(repr((purpose, *keys)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def chosen(probability: float, draw: torch.Generator) -> bool:
    """Whether something with this probability happens.

    Example:
        >>> chosen(0.0, generator("coin")), chosen(1.0, generator("coin"))
        (False, True)
    """
    return float(torch.rand((), generator=draw)) < probability


def between(low: float, high: float, draw: torch.Generator) -> float:
    """A number between two others, each as likely.

    Example:
        >>> 2 <= between(2, 3, generator("length")) < 3
        True
    """
    return low + (high - low) * float(torch.rand((), generator=draw))


def whole(below: int, draw: torch.Generator) -> int:
    """A whole number from 0, below another one, each as likely.

    Example:
        >>> whole(1, generator("corner"))
        0
    """
    return int(torch.randint(below, (), generator=draw))
