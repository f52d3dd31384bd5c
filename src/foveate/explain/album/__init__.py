"""An album: pictures of what a network's attention does on some images, and how far they can be trusted.

`seen` is an image as a network is given it; `files`, `labels` and `prepare` make them of files; `subject` is a network
to look at; `about` what it is; `kind` and `answers` what it says; `sheets` what is shown of an image; `trusting` and
`cost` the numbers; `album` puts all of it together and `page` makes one HTML file of it.
"""

from foveate.explain.album.about import About, Origin
from foveate.explain.album.album import Album, look
from foveate.explain.album.files import Images, Prepare, arranged, read
from foveate.explain.album.labels import Labels
from foveate.explain.album.prepare import Frame, Square
from foveate.explain.album.seen import Left, Seen, Thing, Truth
from foveate.explain.album.sheets import Sheet
from foveate.explain.album.subject import Subject, hosted, read_classes
from foveate.explain.album.trusting import Trust

__all__ = [
    "About",
    "Album",
    "Frame",
    "Images",
    "Labels",
    "Left",
    "Origin",
    "Prepare",
    "Seen",
    "Sheet",
    "Square",
    "Subject",
    "Thing",
    "Trust",
    "Truth",
    "arranged",
    "hosted",
    "look",
    "read",
    "read_classes",
]
