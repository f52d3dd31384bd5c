"""Images to learn from: the embedded sample, and a person's own folders.

:func:`fashion_mnist` needs nothing but torch; :func:`image_folder` needs Pillow (``pip install 'foveate[data]'``).
Both return an :class:`ImageClassification`: three splits of ``(uint8 image, label)``, a fingerprint that changes
whenever the data, the split or the pixels do, and a :class:`DataReport` of everything that was left out or changed
on the way in. :func:`mask_folder` and :func:`scene_masks` are the same for images with a mask each: a
:class:`Segmentation`, with a :class:`MaskReport`.
"""

from foveate.data.classification import ImageClassification, Images
from foveate.data.folders import image_folder
from foveate.data.mask_report import MaskReport
from foveate.data.masks import mask_folder
from foveate.data.report import DataReport, LeftOut
from foveate.data.sample import fashion_mnist
from foveate.data.scene_masks import scene_masks
from foveate.data.segmentation import MaskedImages, Segmentation

__all__ = [
    "DataReport",
    "ImageClassification",
    "Images",
    "LeftOut",
    "MaskReport",
    "MaskedImages",
    "Segmentation",
    "fashion_mnist",
    "image_folder",
    "mask_folder",
    "scene_masks",
]
