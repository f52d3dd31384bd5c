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


def number(value: float) -> str:
    """A number in three digits.

    Example:
        >>> number(0.12345), number(-3.0), number(1e-9)
        ('0.123', '−3', '1e−09')
    """
    return f"{value + 0.0:.3g}".replace("-", MINUS)
