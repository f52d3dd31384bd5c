"""Trying one thing, so that its failure costs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from foveate.errors import FoveateError

Result = TypeVar("Result")
_LONGEST = 300
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal


def attempt(make: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """What a call returns and no reason, or nothing and the reason in one line.

    Whatever goes wrong is caught, since a network may raise anything; an interruption from the keyboard is not.

    Example:
        >>> attempt(lambda: 1 + 1)
        (2, None)
        >>> attempt(lambda: 1 / 0)
        (None, 'ZeroDivisionError: division by zero')
    """
    try:
        return make(), None
    except Exception as error:
        return None, said(error)


def refusing(why: str | None) -> Callable[[], NoReturn]:
    """A call that only says why it cannot be made, in place of one that could.

    Example:
        >>> attempt(refusing("it cannot be copied"))
        (None, 'it cannot be copied')
    """

    def refuse() -> NoReturn:
        raise FoveateError(why or "there is nothing to call")

    return refuse


def said(error: BaseException) -> str:
    r"""An error in one line: our own are sentences, others begin with what they are.

    Example:
        >>> said(ValueError("\x1b[31mnot\x1b[0m so"))
        'ValueError: not so'
    """
    words = " ".join(_COLOURS.sub("", str(error)).split())
    words = words if isinstance(error, FoveateError) and words else f"{type(error).__name__}: {words}".rstrip(": ")
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
