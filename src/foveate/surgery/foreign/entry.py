"""What is known of another library's attention: the class, the card, and how its map is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Shown:
    """One map of a foreign module, and the operation that it can be seen in.

    The operation runs in the module's own ``forward``, or in that of a part; what runs deeper is not looked at. So a
    map is what really multiplied the features, whatever the parameters or activations are called.

    Attributes:
        axes: What the weights vary over besides the batch: ``"c"``, ``"h"``, ``"w"`` (for signals ``"w"`` alone, for
            volumes ``"d"`` before them), ``"branch"`` for weights over parallel branches, ``"hw->hw"`` for pairs of
            positions, ``"head"`` where there are several such.
        step: Its name among the module's maps; empty where it is the only one.
        inside: The part in whose ``forward`` it is seen, by path; the module itself if empty.
        by: ``"product"``, what the features were multiplied by; or ``"softmax"``, what a softmax returned.
        nth: Which of these operations, counted from 0.
    """

    axes: tuple[str, ...]
    step: str = ""
    inside: str = ""
    by: Literal["product", "softmax"] = "product"
    nth: int = 0


@dataclass(frozen=True)
class Entry:
    """One row of the tables: classes that are the same attention, and what there is to say of them.

    Attributes:
        classes: Their qualified names; a subclass counts too.
        card: Name of the mechanism's card, the catalogue's or that of :mod:`foveate.surgery.foreign.cards`.
        maps: How its maps are seen; none where it is recognised only.
        note: Where it differs from the paper; empty where it does not.
        notes_if: More of that for modules whose attribute of that name is true.
        recalibrates: Whether its output is its input, recalibrated: not so where it has convolutions or a second input.
        channels_last: Whether its maps are (batch, height, width, channels).
        own_gate: Whether a hard sigmoid is the paper's.
    """

    classes: tuple[str, ...]
    card: str
    maps: tuple[Shown, ...] = ()
    note: str = ""
    notes_if: tuple[tuple[str, str], ...] = ()
    recalibrates: bool = True
    channels_last: bool = False
    own_gate: bool = False


CHANNEL = (Shown(("c",)),)
EVERYWHERE = (Shown(("c", "h", "w")),)
