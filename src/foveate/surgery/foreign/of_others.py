"""Attention modules of torchvision, segmentation-models-pytorch, MONAI and ultralytics."""

from __future__ import annotations

from foveate.surgery.foreign.entry import CHANNEL, Entry, Shown

_INSIDE = "inside the block, before its last convolution"
_PLACE = (Shown(("h", "w")),)

TORCHVISION = (Entry(("torchvision.ops.misc.SqueezeExcitation",), "squeeze_excite", CHANNEL, _INSIDE),)

SEGMENTATION_MODELS = (
    Entry(
        ("segmentation_models_pytorch.base.modules.SCSEModule",),
        "scse",
        (Shown(("c",), "channel"), Shown(("h", "w"), "spatial", nth=1)),
        "the two are added, where the authors take the larger",
    ),
    Entry(
        (
            "segmentation_models_pytorch.encoders._senet.SEModule",
            "segmentation_models_pytorch.encoders.mobileone.SEBlock",
        ),
        "squeeze_excite",
        CHANNEL,
    ),
    Entry(
        ("segmentation_models_pytorch.decoders.manet.decoder.MFABBlock",),
        "squeeze_excite",
        CHANNEL,
        "the sum of two gates, one from the features below and one from the skip, multiplies the features below",
        recalibrates=False,
    ),
    Entry(
        ("segmentation_models_pytorch.decoders.manet.decoder.PABBlock",),
        "position_attention_block",
        (Shown(("hw->hw",), inside="map_softmax", by="softmax"),),
        "the softmax runs over all pairs at once, so that a position's weights do not sum to one; what they mix is "
        "reshaped without a transposition, which interleaves positions and channels",
        recalibrates=False,
    ),
    Entry(
        ("segmentation_models_pytorch.decoders.pan.decoder.FPABlock",),
        "feature_pyramid_attention",
        _PLACE,
        "its weights come from a ReLU and an addition: they have no upper limit",
        recalibrates=False,
    ),
    Entry(
        ("segmentation_models_pytorch.decoders.pan.decoder.GAUBlock",),
        "global_attention_upsample",
        CHANNEL,
        "its gate ends in a sigmoid",
        recalibrates=False,
    ),
)

MONAI = (
    Entry(
        ("monai.networks.blocks.squeeze_and_excitation.ResidualSELayer",),
        "squeeze_excite",
        CHANNEL,
        "a ReLU and not a sigmoid makes the weights, and the input is added to what they let through",
    ),
    Entry(
        ("monai.networks.blocks.squeeze_and_excitation.ChannelSELayer",),
        "squeeze_excite",
        CHANNEL,
        "the bottleneck is C / 2 unless another is asked for",
    ),
    Entry(
        ("monai.networks.nets.attentionunet.AttentionBlock",),
        "attention_gate",
        _PLACE,
        "norms follow its convolutions; skip and gating signal have one resolution, where the paper resamples the gate",
        recalibrates=False,
    ),
)

ULTRALYTICS = (
    Entry(
        ("ultralytics.nn.modules.conv.CBAM",),
        "cbam",
        (
            Shown(("c",), "channel", "channel_attention"),
            Shown(("h", "w"), "spatial", "spatial_attention"),
        ),
        "not the paper's: the channel gate is one layer from C to C on the mean alone, without a bottleneck and "
        "without the maximum; no spatial norm",
    ),
    Entry(
        ("ultralytics.nn.modules.conv.ChannelAttention",),
        "effective_squeeze_excite",
        CHANNEL,
        "its gate is a sigmoid, where the paper has a hard sigmoid",
    ),
    Entry(
        ("ultralytics.nn.modules.conv.SpatialAttention",), "cbam", _PLACE, "the spatial half on its own, without a norm"
    ),
    Entry(
        ("ultralytics.nn.modules.block.Attention",),
        "partial_self_attention",
        (Shown(("head", "hw->hw"), by="softmax"),),
        "what this library calls PSA is self-attention, and has nothing to do with PSANet",
        recalibrates=False,
    ),
    Entry(("ultralytics.nn.modules.block.AAttn",), "area_attention", recalibrates=False),
)
