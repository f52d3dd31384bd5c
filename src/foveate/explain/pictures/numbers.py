"""Numbers as a picture writes them."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"


def ends(low: float, high: float) -> tuple[str, str]:
    """The two ends of a scale, with as many digits as their distance deserves.

    Example:
        >>> ends(0.0, 1.0), ends(0.0000767, 0.5), ends(-12.3, 40), ends(0.98, 1.04)
        (('0', '1'), ('0.00', '0.50'), ('−12', '40'), ('0.980', '1.040'))
    """
    if low == round(low) and high == round(high):
        return f"{low:.0f}".replace("-", MINUS), f"{high:.0f}".replace("-", MINUS)
    span = high - low or abs(high)
    digits = max(0, 2 - math.ceil(math.log10(span)))
    low, high = (round(end, digits) + 0.0 for end in (low, high))
    return f"{low:.{digits}f}".replace("-", MINUS), f"{high:.{digits}f}".replace("-", MINUS)


def marks(low: float, high: float) -> tuple[str, str, str]:
    """The ends of a scale and its middle, in the same digits.

    Example:
        >>> marks(0.0, 1.0), marks(0.65, 0.977), marks(-0.5, 0.5)
        (('0', '0.5', '1'), ('0.65', '0.81', '0.98'), ('−0.50', '0', '0.50'))
    """
    first, last = ends(low, high)
    middle = (low + high) / 2
    digits = len(first.partition(".")[2])
    inside = f"{middle:.{digits}f}".replace("-", MINUS) if digits else number(middle)
    return first, "0" if middle == 0 else inside, last


def number(value: float) -> str:
    """A number in three digits.

    Example:
        >>> number(0.12345), number(-3.0), number(1e-9)
        ('0.123', '−3', '1e−09')
    """
    return f"{value + 0.0:.3g}".replace("-", MINUS)
