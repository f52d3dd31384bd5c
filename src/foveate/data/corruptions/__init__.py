"""foveate-C: sixteen corruptions in four families, five strengths each, for images of bytes of any size from 8 pixels.

They are foveate's own, made for small images as for large ones, and are **not** those of ImageNet-C or CIFAR-10-C
(Hendrycks and Dietterich 2019, arXiv:1903.12261): numbers of the two cannot be compared. Published files of those are
read by :mod:`foveate.data.published`. None moves anything, so classes, masks and boxes stay true; what depends on place
has no elastic deformation for that reason.
"""

from foveate.data.corruptions.corrupted import Corrupted, corrupt
from foveate.data.corruptions.table import CORRUPTIONS, FAMILIES, STRENGTHS, Corruption

__all__ = ["CORRUPTIONS", "FAMILIES", "STRENGTHS", "Corrupted", "Corruption", "corrupt"]
