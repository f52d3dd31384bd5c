"""Where attention can go: one watched forward pass, and the questions that presets and patterns ask of it.

`watch` keeps the pass as calls and values; `axes` follows where channels lie; `spots` goes from a value to a module;
`residuals` and `resolutions` know blocks, stages, skips and pyramids; `presets` names them; `meetings` knows where two
maps are joined; `find` puts it together.
"""

from foveate.surgery.places.find import At, Place, default_example, find_convolutions, find_places

__all__ = ["At", "Place", "default_example", "find_convolutions", "find_places"]
