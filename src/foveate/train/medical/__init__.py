"""Medical images: what is learned of them, and how it is judged."""

from foveate.train.medical.classification import MedicalClassification
from foveate.train.medical.segmentation import MedicalSegmentation

__all__ = ["MedicalClassification", "MedicalSegmentation"]
