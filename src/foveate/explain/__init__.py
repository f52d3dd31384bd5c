"""Looking at attention: what each map held while a network ran, and pictures of it."""

from foveate.explain.overlay import overlay
from foveate.explain.record import (
    AttentionMap,
    MapStatistics,
    Recording,
    Statistics,
    record,
    record_statistics,
)

__all__ = ["AttentionMap", "MapStatistics", "Recording", "Statistics", "overlay", "record", "record_statistics"]
