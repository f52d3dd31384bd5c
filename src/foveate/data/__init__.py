"""Samples to learn from: the embedded ones, and a person's own folders.

Four kinds, each with a folder's reader and an embedded sample that needs no download:

- images of a class each: :func:`image_folder`, :func:`fashion_mnist`;
- images with a mask each: :func:`mask_folder`, :func:`scene_masks`;
- images with boxes: :func:`box_folder`, :func:`scene_boxes`;
- medical images by patient: :func:`subject_folder`, :func:`synthetic_brains`.

Every reader returns three splits, a fingerprint that changes whenever the data, the split or the pixels do, and a
report of everything that was left out or changed on the way in. :func:`fashion_mnist` needs nothing but torch; pictures
need Pillow (``pip install 'foveate[data]'``), medical images ``foveate[medical]``.

What is tested besides: corrupted images (:class:`Corrupted`), published sets of them (:func:`cifar_c`,
:func:`imagenet_c`) and folders from elsewhere (:func:`shifted`). Training splits are cut to a :func:`fraction`, and
small data is dealt anew by :func:`resplit`.
"""

from foveate.data.boxes.detection import Boxes, BoxReport, Detection
from foveate.data.boxes.folder import box_folder, scene_boxes
from foveate.data.classification import ImageClassification, Images
from foveate.data.corruptions import Corrupted, corrupt
from foveate.data.folders import image_folder
from foveate.data.fractions import fraction
from foveate.data.masks.folder import mask_folder
from foveate.data.masks.report import MaskReport
from foveate.data.masks.scenes import scene_masks
from foveate.data.masks.segmentation import MaskedImages, Segmentation
from foveate.data.medical.brains import synthetic_brains
from foveate.data.medical.data import Medical
from foveate.data.medical.folder import subject_folder
from foveate.data.published import Published, cifar_c, imagenet_c
from foveate.data.report import DataReport, LeftOut
from foveate.data.resplitting import resplit
from foveate.data.sample import fashion_mnist
from foveate.data.shift import Shifted, shifted

__all__ = [
    "BoxReport",
    "Boxes",
    "Corrupted",
    "DataReport",
    "Detection",
    "ImageClassification",
    "Images",
    "LeftOut",
    "MaskReport",
    "MaskedImages",
    "Medical",
    "Published",
    "Segmentation",
    "Shifted",
    "box_folder",
    "cifar_c",
    "corrupt",
    "fashion_mnist",
    "fraction",
    "image_folder",
    "imagenet_c",
    "mask_folder",
    "resplit",
    "scene_boxes",
    "scene_masks",
    "shifted",
    "subject_folder",
    "synthetic_brains",
]
