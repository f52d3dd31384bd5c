"""Numbers of things in sentences."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "epoch"), counted(1800, "image")
        ('1 epoch', '1,800 images')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"
