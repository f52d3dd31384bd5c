"""The catalogue: one mechanism a file, named by one word, and one explicit line for each here."""

from foveate.catalogue.cbam import CBAM
from foveate.catalogue.eca import EfficientChannelAttention
from foveate.catalogue.gather_excite import GatherExcite
from foveate.catalogue.psanet import PSANet
from foveate.catalogue.squeeze_excite import SqueezeExcite

__all__ = ["CBAM", "EfficientChannelAttention", "GatherExcite", "PSANet", "SqueezeExcite"]
