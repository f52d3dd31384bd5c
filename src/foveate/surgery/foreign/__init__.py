"""Attention that other libraries put into their networks: tables of what is known, and how its maps are seen."""

from foveate.surgery.foreign.entry import Entry, Shown
from foveate.surgery.foreign.listening import listen
from foveate.surgery.foreign.matching import card_of, library, note_on, recognise

__all__ = ["Entry", "Shown", "card_of", "library", "listen", "note_on", "recognise"]
