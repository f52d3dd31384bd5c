"""What a kind of picture hands to the whole: its panels, what they show in sentences, and in words for the blind."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.explain.pictures.page import Placed


@dataclass(frozen=True)
class Parts:
    """The inside of a picture.

    Attributes:
        placed: The panels at their places.
        sentences: What is shown, the scale, and what is to be known of it.
        alt: What is to be seen.
    """

    placed: tuple[Placed, ...]
    sentences: tuple[str, ...]
    alt: str
