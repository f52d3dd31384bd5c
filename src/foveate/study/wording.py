"""How the report writes its numbers."""

from __future__ import annotations

from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def percent(fraction: float) -> str:
    """A share as a percentage.

    Example:
        >>> percent(0.8244).split()
        ['82.4', '%']
    """
    return f"{100 * fraction:.1f}{SPACE}%"


def points(fraction: float) -> str:
    """A difference of shares in percentage points, with its sign.

    Example:
        >>> points(0.0123), points(-0.004), points(-0.00001)
        ('+1.2', '−0.4', '0.0')
    """
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text.replace("-", MINUS)


def percent_interval(interval: Sequence[float] | None) -> str:
    """The ends of an interval of shares.

    Example:
        >>> percent_interval([0.80, 0.845]).split()
        ['80.0', 'to', '84.5', '%']
        >>> percent_interval(None)
        'no interval from one seed'
    """
    if interval is None:
        return "no interval from one seed"
    return f"{100 * interval[0]:.1f} to {percent(interval[1])}".replace("-", MINUS).replace(" to ", f"{SPACE}to ")


def points_interval(interval: Sequence[float] | None) -> str:
    """The ends of an interval of differences in percentage points.

    Example:
        >>> points_interval([-0.012, 0.03]).split()
        ['−1.2', 'to', '+3.0']
    """
    if interval is None:
        return "no interval from one seed"
    return f"{points(interval[0])}{SPACE}to {points(interval[1])}"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign.

    Example:
        >>> signed(-0.5), signed(1.2345, 3), signed(0.0)
        ('−0.50', '+1.234', '0.00')
    """
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def signed_interval(interval: Sequence[float] | None, digits: int = 2) -> str:
    """The ends of an interval of numbers with signs.

    Example:
        >>> signed_interval([-0.5, 0.25]).split()
        ['−0.50', 'to', '+0.25']
    """
    if interval is None:
        return "no interval from one seed"
    return f"{signed(interval[0], digits)}{SPACE}to {signed(interval[1], digits)}"


def probability(p: float) -> str:
    """A p-value.

    Example:
        >>> probability(0.03125), probability(0.00004), probability(1.0)
        ('0.031', '< 0.001', '1')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def verdict(word: str) -> str:
    """The word of a verdict with a shape that says it too.

    Example:
        >>> verdict("better"), verdict("no evidence")
        ('▲ better', '○ no evidence')
    """
    shape = {"better": "▲", "worse": "▼", "no evidence": "○"}.get(word, "?")
    return f"{shape} {word}"


def metric_name(metric: str) -> str:
    """How people call a metric.

    Example:
        >>> metric_name("balanced_accuracy"), metric_name("miou")
        ('balanced accuracy', 'mean IoU')
    """
    return {"miou": "mean IoU", "map": "mAP", "dice": "Dice"}.get(metric, metric.replace("_", " "))


def size(count: float) -> str:
    """A number of bytes.

    Example:
        >>> size(2_097_152), size(900)
        ('2 MiB', '900 B')
    """
    for unit, letter in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.3g} {letter}"
    return f"{count:g} B"


def short_count(count: float) -> str:
    """A large number in at most three figures.

    Example:
        >>> short_count(78042), short_count(999_999), short_count(9.1e9), short_count(950)
        ('78 k', '1 M', '9.1 G', '950')
    """
    rounded = float(f"{count:.3g}")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:.3g} {letter}"
    return f"{rounded:g}"


def times(ratio: float) -> str:
    """A ratio.

    Example:
        >>> times(1.3141)
        '1.31×'
    """
    return f"{ratio:.2f}×"


def times_interval(interval: Sequence[float]) -> str:
    """The ends of an interval of ratios.

    Example:
        >>> times_interval([1.2, 1.4]).split()
        ['1.20', 'to', '1.40×']
    """
    return f"{interval[0]:.2f}{SPACE}to {times(interval[1])}"


def added(count: int) -> str:
    """How many more.

    Example:
        >>> added(795), added(-20), added(0)
        ('+795', '−20', '+0')
    """
    return f"{count:+,}".replace("-", MINUS)


def more(ratio: float) -> str:
    """How much more a ratio says, as a percentage.

    Example:
        >>> [more(ratio).split()[0] for ratio in (1.0008, 1.032, 2.5, 0.98)]
        ['+0.08', '+3.2', '+150', '−2.0']
    """
    change = 100 * (ratio - 1)
    digits = 2 if abs(change) < 1 else 1 if abs(change) < 10 else 0
    return f"{change:+.{digits}f}{SPACE}%".replace("-", MINUS)


def counted(count: int, noun: str) -> str:
    """A count with its noun, in words up to twelve.

    Example:
        >>> counted(3, "seed"), counted(1, "seed"), counted(40, "seed")
        ('three seeds', 'one seed', '40 seeds')
    """
    number = _COUNTS[count] if count < len(_COUNTS) else str(count)
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"
