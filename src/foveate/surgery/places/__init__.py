"""Where attention can go: one watched forward pass, and the questions that presets and patterns ask of it.

`watch` runs the pass, and `passes` says what is kept of it: calls and values; `axes` follows where channels lie;
`spots` goes from a value to a module; `residuals` and `resolutions` know blocks, stages, skips and pyramids; `presets`
names them; `meetings` knows where two maps are joined; `patterns` names modules by paths; `lasting` leaves out what
would not last. `find` puts it together, and `convolutions` does for what stands in a convolution's place; what comes
out is a `place`.
"""

from foveate.surgery.places.convolutions import find_convolutions
from foveate.surgery.places.example import default_example
from foveate.surgery.places.find import find_places
from foveate.surgery.places.patterns import At
from foveate.surgery.places.place import Place

__all__ = ["At", "Place", "default_example", "find_convolutions", "find_places"]
