"""Looking at attention: what each map held while a network ran, and pictures of it."""

from foveate.explain.overlay import overlay
from foveate.explain.record import AttentionMap, Recording, record

__all__ = ["AttentionMap", "Recording", "overlay", "record"]
