"""The catalogue: one mechanism a file, named by one word, and one explicit line for each here."""

from foveate.catalogue.asymmetric_non_local import AsymmetricNonLocal
from foveate.catalogue.attention_augmented import AttentionAugmentedConvolution
from foveate.catalogue.attention_gate import AttentionGate
from foveate.catalogue.attentional_fusion import AttentionalFusion
from foveate.catalogue.bam import BAM
from foveate.catalogue.bottleneck_attention import BottleneckAttention
from foveate.catalogue.cbam import CBAM
from foveate.catalogue.channel_prior import ChannelPriorAttention
from foveate.catalogue.condconv import CondConv
from foveate.catalogue.context_anchor import ContextAnchor
from foveate.catalogue.contextual_transformer import ContextualTransformer
from foveate.catalogue.coordinate import CoordinateAttention
from foveate.catalogue.criss_cross import CrissCross
from foveate.catalogue.danet_channel import DANetChannel
from foveate.catalogue.danet_position import DANetPosition
from foveate.catalogue.decoupled_fully_connected import DecoupledFullyConnected
from foveate.catalogue.disentangled_non_local import DisentangledNonLocal
from foveate.catalogue.double_attention import DoubleAttention
from foveate.catalogue.dynamic_convolution import DynamicConvolution
from foveate.catalogue.eca import EfficientChannelAttention
from foveate.catalogue.effective_squeeze_excite import EffectiveSqueezeExcite
from foveate.catalogue.efficient_channel_circular import CircularEfficientChannelAttention
from foveate.catalogue.efficient_local import EfficientLocalAttention
from foveate.catalogue.efficient_multiscale import EfficientMultiscaleAttention
from foveate.catalogue.expectation_maximization import ExpectationMaximization
from foveate.catalogue.external import ExternalAttention
from foveate.catalogue.fcanet import FcaNet
from foveate.catalogue.gated_channel import GatedChannel
from foveate.catalogue.gather_excite import GatherExcite
from foveate.catalogue.gaussian_context import GaussianContext
from foveate.catalogue.global_attention_mechanism import GlobalAttentionMechanism
from foveate.catalogue.global_context import GlobalContext
from foveate.catalogue.grn import GlobalResponseNorm
from foveate.catalogue.gsop import GSoP
from foveate.catalogue.hamburger import Hamburger
from foveate.catalogue.interlaced_sparse import InterlacedSparse
from foveate.catalogue.involution import Involution
from foveate.catalogue.iterative_attentional_fusion import IterativeAttentionalFusion
from foveate.catalogue.large_kernel import LargeKernel
from foveate.catalogue.large_selective_kernel import LargeSelectiveKernel
from foveate.catalogue.large_separable_kernel import LargeSeparableKernel
from foveate.catalogue.linear_context import LinearContext
from foveate.catalogue.mixed_local_channel import MixedLocalChannel
from foveate.catalogue.multidimensional_collaborative import MultidimensionalCollaborative
from foveate.catalogue.multiscale_channel import MultiscaleChannel
from foveate.catalogue.multiscale_convolutional import MultiscaleConvolutional
from foveate.catalogue.nam import NAM
from foveate.catalogue.non_local import NonLocal
from foveate.catalogue.odconv import OmniDimensionalDynamicConvolution
from foveate.catalogue.polarized import PolarizedSelfAttention
from foveate.catalogue.psanet import PSANet
from foveate.catalogue.pyramid_split import PyramidSplit
from foveate.catalogue.scse import ConcurrentSqueezeExcite
from foveate.catalogue.selective_kernel import SelectiveKernel
from foveate.catalogue.shuffle import ShuffleAttention
from foveate.catalogue.simam import SimAM
from foveate.catalogue.skip_squeeze_excite import SkipSqueezeExcite
from foveate.catalogue.spatial_channel_synergistic import SpatialChannelSynergistic
from foveate.catalogue.spatial_groupwise import SpatialGroupwise
from foveate.catalogue.split_attention import SplitAttention
from foveate.catalogue.squeeze_excite import SqueezeExcite
from foveate.catalogue.strip_pooling import StripPooling
from foveate.catalogue.style_recalibration import StyleRecalibration
from foveate.catalogue.triplet import TripletAttention

__all__ = [
    "BAM",
    "CBAM",
    "NAM",
    "AsymmetricNonLocal",
    "AttentionAugmentedConvolution",
    "AttentionGate",
    "AttentionalFusion",
    "BottleneckAttention",
    "ChannelPriorAttention",
    "CircularEfficientChannelAttention",
    "ConcurrentSqueezeExcite",
    "CondConv",
    "ContextAnchor",
    "ContextualTransformer",
    "CoordinateAttention",
    "CrissCross",
    "DANetChannel",
    "DANetPosition",
    "DecoupledFullyConnected",
    "DisentangledNonLocal",
    "DoubleAttention",
    "DynamicConvolution",
    "EffectiveSqueezeExcite",
    "EfficientChannelAttention",
    "EfficientLocalAttention",
    "EfficientMultiscaleAttention",
    "ExpectationMaximization",
    "ExternalAttention",
    "FcaNet",
    "GSoP",
    "GatedChannel",
    "GatherExcite",
    "GaussianContext",
    "GlobalAttentionMechanism",
    "GlobalContext",
    "GlobalResponseNorm",
    "Hamburger",
    "InterlacedSparse",
    "Involution",
    "IterativeAttentionalFusion",
    "LargeKernel",
    "LargeSelectiveKernel",
    "LargeSeparableKernel",
    "LinearContext",
    "MixedLocalChannel",
    "MultidimensionalCollaborative",
    "MultiscaleChannel",
    "MultiscaleConvolutional",
    "NonLocal",
    "OmniDimensionalDynamicConvolution",
    "PSANet",
    "PolarizedSelfAttention",
    "PyramidSplit",
    "SelectiveKernel",
    "ShuffleAttention",
    "SimAM",
    "SkipSqueezeExcite",
    "SpatialChannelSynergistic",
    "SpatialGroupwise",
    "SplitAttention",
    "SqueezeExcite",
    "StripPooling",
    "StyleRecalibration",
    "TripletAttention",
]
