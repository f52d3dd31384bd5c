"""What foveate raises: one family, so that a caller can catch it, and sentences, so that a person can act."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FoveateError(Exception):
    """Anything that foveate refuses to do, in one sentence that says what, where and what to do."""


class OptionError(FoveateError, ValueError):
    """A name, option or value that does not exist or cannot work."""


class PlaceError(FoveateError, LookupError):
    """A place in a network that does not exist or cannot carry attention."""


class DataError(FoveateError):
    """Data from outside that cannot be read or used."""


class MissingExtraError(FoveateError, ImportError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package '{package}': pip install 'foveate[{extra}]'")


class FoveateWarning(UserWarning):
    """Something that works, but probably not as the caller hoped."""


def nearest(word: str, words: Iterable[str], count: int = 3) -> str:
    """The known words nearest to a misspelt one, as the end of a sentence.

    Example:
        >>> nearest("cbma", ["cbam", "eca"])
        "did you mean 'cbam'?"
        >>> nearest("xyz", ["cbam", "eca"])
        'known: cbam, eca'
    """
    words = sorted(words)
    close = difflib.get_close_matches(word, words, n=count, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    shown = ", ".join(words[:12]) + (f" and {len(words) - 12} more" if len(words) > 12 else "")
    return f"known: {shown}" if words else "there are none"


def check_choice(what: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        OptionError: With the choices.

    Example:
        >>> check_choice("extent", 8, (2, 4, 8, "global"))
    """
    allowed = list(choices)
    if not any(value == choice and type(value) is type(choice) for choice in allowed):  # 2.0 and True are no 2 and 1
        raise OptionError(f"{what} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def check_at_least(what: str, value: object, least: int) -> None:
    """Refuse what is not a whole number, or too small a one.

    Raises:
        OptionError: With the smallest value that works.

    Example:
        >>> check_at_least("reduction", 16, 1)
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{what} must be a whole number of at least {least}, not {value!r}")


def check_odd(what: str, value: object) -> None:
    """Refuse what is not an odd positive number, and name the nearest that are.

    Raises:
        OptionError: With the nearest odd values.

    Example:
        >>> check_odd("kernel_size", 7)
    """
    check_at_least(what, value, 1)
    if isinstance(value, int) and value % 2 == 0:
        raise OptionError(f"{what} must be odd, to have a centre; {value} is not, {value - 1} and {value + 1} are")


def check_bool(what: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        OptionError: With the value that was given.

    Example:
        >>> check_bool("bias", True)
    """
    if not isinstance(value, bool):
        raise OptionError(f"{what} must be true or false, not {value!r}")


def check_size(what: str, value: object) -> None:
    """Refuse what is not a height and a width, whole numbers of at least 1.

    Raises:
        OptionError: With what is wrong.

    Example:
        >>> check_size("size", (56, 56))
    """
    if not isinstance(value, tuple) or len(value) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise OptionError(f"{what} must be a height and a width, as (56, 56) or 56+56, not {value!r}")
    for name, length in zip(("height", "width"), value, strict=True):  # pyright: ignore[reportUnknownArgumentType]
        check_at_least(f"{what} {name}", length, 1)


def check_positive(what: str, value: object) -> None:
    """Refuse what is not a number above zero.

    Raises:
        OptionError: With the value that was given.

    Example:
        >>> check_positive("normalization", 1.0)
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise OptionError(f"{what} must be positive, not {value!r}")
