"""Pictures of attention, each with its scale and what its values mean."""

from foveate.explain.pictures.picture import Picture

__all__ = ["Picture"]
