"""Images to learn from: the embedded sample, and a person's own folders.

:func:`fashion_mnist` needs nothing but torch; :func:`image_folder` needs Pillow (``pip install 'foveate[data]'``).
Both return an :class:`ImageClassification`: three splits of ``(uint8 image, label)``, a fingerprint that changes
whenever the data, the split or the pixels do, and a :class:`DataReport` of everything that was left out or changed
on the way in.
"""

from foveate.data.classification import ImageClassification, Images
from foveate.data.folders import image_folder
from foveate.data.report import DataReport, LeftOut
from foveate.data.sample import fashion_mnist

__all__ = ["DataReport", "ImageClassification", "Images", "LeftOut", "fashion_mnist", "image_folder"]
