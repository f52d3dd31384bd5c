"""Pictures of attention, each with its scale and what its values mean: plain data that becomes SVG, PNG or HTML.

====================  ================================================================================================
function              what it draws
====================  ================================================================================================
`draw`                one map in its natural form: bars, over the image, bands, a matrix, from an asked point
`crossed`             gates of rows and of columns together
`field`               a relation of positions, asked at points on a grid
`strip`               one image at every place, stage by stage
`beside`              attention and class activation maps of the same answer
`film`                frames of a video, on one scale
`slices`              three planes of a volume
====================  ================================================================================================
"""

from foveate.explain.pictures.baselines import beside
from foveate.explain.pictures.drawn import draw
from foveate.explain.pictures.films import Film, film
from foveate.explain.pictures.lines import crossed
from foveate.explain.pictures.picture import Picture
from foveate.explain.pictures.relations import field
from foveate.explain.pictures.stages import strip
from foveate.explain.pictures.volumes import slices

__all__ = ["Film", "Picture", "beside", "crossed", "draw", "field", "film", "slices", "strip"]
