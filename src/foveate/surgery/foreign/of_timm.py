"""timm's attention modules."""

from __future__ import annotations

from foveate.surgery.foreign.entry import CHANNEL, EVERYWHERE, Entry, Shown

_HALVES = (Shown(("c",), "channel", "channel"), Shown(("h", "w"), "spatial", "spatial"))
_LINES = (Shown(("c", "w"), "width"), Shown(("c", "h"), "height", nth=1))
_LIGHT = "its pools are averaged before one pass through the network, where the paper sums two passes"

TIMM = (
    Entry(
        ("timm.layers.squeeze_excite.SEModule",),
        "squeeze_excite",
        CHANNEL,
        "the bottleneck is rounded to a multiple of 8 by default, where the paper takes C // r",
    ),
    Entry(
        ("timm.layers.squeeze_excite.SqueezeExciteCl",),
        "squeeze_excite",
        CHANNEL,
        "for maps with channels last; the bottleneck is rounded to a multiple of 8 by default",
        recalibrates=False,
        channels_last=True,
    ),
    Entry(
        ("timm.models._efficientnet_blocks.SqueezeExcite",),
        "squeeze_excite",
        CHANNEL,
        "inside the block, before its last convolution; the bottleneck is a share of the block's input",
    ),
    Entry(("timm.models.senet.SEModule",), "squeeze_excite", CHANNEL),
    Entry(("timm.layers.squeeze_excite.EffectiveSEModule",), "effective_squeeze_excite", CHANNEL, own_gate=True),
    Entry(
        ("timm.models.hgnet.EseModule",),
        "effective_squeeze_excite",
        CHANNEL,
        "its gate is a sigmoid, where the paper has a hard sigmoid",
    ),
    Entry(
        ("timm.layers.eca.EcaModule",),
        "eca",
        CHANNEL,
        "the kernel has at least 3 taps, where the paper's equation gives 1 below 8 channels",
        (("conv2", "a network of two layers across channels takes the place of the one convolution"),),
    ),
    Entry(
        ("timm.layers.eca.CecaModule",),
        "eca",
        CHANNEL,
        "the channels are padded as a circle, where the paper pads zeros",
    ),
    Entry(
        ("timm.layers.cbam.CbamModule",),
        "cbam",
        _HALVES,
        "no biases in the shared network by default; mean before maximum; the spatial norm has momentum 0.1 and starts "
        "at one",
    ),
    Entry(("timm.layers.cbam.LightCbamModule",), "cbam", _HALVES, _LIGHT),
    Entry(("timm.layers.cbam.LightChannelAttn",), "cbam", CHANNEL, f"the channel half on its own; {_LIGHT}"),
    Entry(("timm.layers.cbam.ChannelAttn",), "cbam", CHANNEL, "the channel half on its own"),
    Entry(("timm.layers.cbam.SpatialAttn",), "cbam", (Shown(("h", "w")),), "the spatial half on its own"),
    Entry(
        ("timm.layers.cbam.LightSpatialAttn",), "cbam", (Shown(("h", "w")),), f"the spatial half on its own; {_LIGHT}"
    ),
    Entry(
        ("timm.layers.gather_excite.GatherExcite",),
        "gather_excite",
        EVERYWHERE,
        "its network starts without the paper's ReLU; by default, with global extent and no learned gathering, it is "
        "Squeeze-and-Excitation",
    ),
    Entry(
        ("timm.layers.global_context.GlobalContext",),
        "global_context",
        (Shown(("h", "w"), "positions", by="softmax"), Shown(("c",), "channels")),
        "the bottleneck is C / 8 unless another is asked for, where the paper has C / 16",
        (("mlp_scale", "it multiplies by a sigmoid, where the paper adds"),),
    ),
    Entry(
        ("timm.layers.coord_attn.CoordAttn",),
        "coordinate",
        _LINES,
        "no biases, and a bottleneck of its own rule, where the paper takes max(8, C / 32)",
    ),
    Entry(
        ("timm.layers.coord_attn.SimpleCoordAttn",),
        "coordinate",
        EVERYWHERE,
        "simplified: linear layers, no norm, and one gate of the sum where the paper multiplies two",
    ),
    Entry(
        ("timm.layers.coord_attn.EfficientLocalAttn",),
        "efficient_local",
        (Shown(("c", "h"), "height"), Shown(("c", "w"), "width", nth=1)),
        "a SiLU stands before the sigmoid, which the paper does not have",
    ),
    Entry(
        ("timm.layers.coord_attn.StripAttn",),
        "strip_pooling",
        EVERYWHERE,
        "simplified: depthwise convolutions and no projection",
    ),
    Entry(
        ("timm.layers.selective_kernel.SelectiveKernel",),
        "selective_kernel",
        (Shown(("branch", "c")),),
        notes_if=(("split_input", "a branch sees its share of the input channels, where the paper gives it all"),),
        recalibrates=False,
    ),
    Entry(("timm.layers.split_attn.SplitAttn",), "split_attention", (Shown(("branch", "c")),), recalibrates=False),
    Entry(
        ("timm.layers.non_local_attn.NonLocalAttn",),
        "non_local",
        (Shown(("hw->hw",), by="softmax"),),
        "scaled by 1 / √C of its input, not of the embedding; the bottleneck is C / 8, not C / 2",
    ),
    Entry(("timm.layers.non_local_attn.BatNonLocalAttn",), "bilinear_attentional_transform"),
    Entry(
        ("timm.layers.bottleneck_attn.BottleneckAttn",),
        "bottleneck_attention",
        (Shown(("head", "hw->hw"), by="softmax"),),
        recalibrates=False,
    ),
    Entry(("timm.layers.halo_attn.HaloAttn",), "halo_attention", recalibrates=False),
    Entry(("timm.layers.lambda_layer.LambdaLayer",), "lambda_layer", recalibrates=False),
)
