"""Which row of the tables a module belongs to, by the names of its class and of the classes that it extends."""

from __future__ import annotations

from torch import nn

from foveate.errors import OptionError, nearest
from foveate.registry import Card, get, names
from foveate.surgery.foreign.cards import CARDS
from foveate.surgery.foreign.entry import Entry
from foveate.surgery.foreign.of_others import MONAI, SEGMENTATION_MODELS, TORCHVISION, ULTRALYTICS
from foveate.surgery.foreign.of_timm import TIMM

ENTRIES = {
    name: entry
    for table in (TIMM, TORCHVISION, SEGMENTATION_MODELS, MONAI, ULTRALYTICS)
    for entry in table
    for name in entry.classes
}
# activations that may stand where a paper has a sigmoid or a ReLU, by the name of their class
HARD_SIGMOIDS = {"Hardsigmoid", "HardSigmoid", "HardSigmoidMe", "HardSigmoidJit", "HardSigmoidJitMe"}
SWISHES = {"SiLU", "Swish", "SwishMe", "SwishJit", "SwishJitMe"}
# options that several of timm's modules have
_OPTIONS = (
    ("add_maxpool", "it squeezes to the average of mean and maximum, where the paper has the mean"),
    ("has_skip", "its input is added to its output"),
)


def recognise(module: nn.Module) -> Entry | None:
    """The row that a module belongs to, or ``None``. No library is imported for it.

    Example:
        >>> recognise(nn.ReLU()) is None
        True
    """
    return next((ENTRIES[name] for name in map(_qualified, type(module).__mro__) if name in ENTRIES), None)


def library(module: nn.Module) -> str:
    """The library whose class was recognised."""
    name = next(name for name in map(_qualified, type(module).__mro__) if name in ENTRIES)
    return name.partition(".")[0]


def card_of(name: str) -> Card:
    """The card of a mechanism: the catalogue's if it has one.

    Raises:
        OptionError: If nobody knows the mechanism.

    Example:
        >>> card_of("eca").title, card_of("scse").paper.venue
        ('Efficient Channel Attention', 'MICCAI 2018')
    """
    if name in names():
        return get(name).card
    if name not in CARDS:
        raise OptionError(f"there is no card called '{name}'; {nearest(name, (*names(), *CARDS))}")
    return CARDS[name]


def note_on(module: nn.Module, entry: Entry) -> str:
    """Where this very module differs from the paper: what the table says, and the activations it was built with."""
    kinds = {type(child).__name__ for child in module.modules()}
    parts = [entry.note] if entry.note else []
    if kinds & HARD_SIGMOIDS and not entry.own_gate:
        parts.append("its gate is a hard sigmoid, relu6(x + 3) / 6, where the paper has a sigmoid")
    if entry.card == "squeeze_excite" and kinds & SWISHES:
        parts.append("a SiLU stands between its layers, where the paper has a ReLU")
    parts += [text for attribute, text in (*entry.notes_if, *_OPTIONS) if getattr(module, attribute, None)]
    return "; ".join(parts)


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
