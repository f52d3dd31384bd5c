"""Pictures of attention, each with its scale and what its values mean."""

from foveate.explain.pictures.drawn import draw
from foveate.explain.pictures.lines import crossed
from foveate.explain.pictures.picture import Picture
from foveate.explain.pictures.relations import field

__all__ = ["Picture", "crossed", "draw", "field"]
