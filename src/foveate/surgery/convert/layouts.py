"""How others name and shape the same weights, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["same", "pointwise", "swapped"]
Need = Literal["always", "maybe", "rarely", "never"]


@dataclass(frozen=True)
class Part:
    """One tensor of a mechanism, by our name and by theirs.

    Attributes:
        ours: Its name in our module; empty for one that we do not have, which must be zero.
        theirs: Its name in theirs.
        form: ``"same"``; ``"pointwise"``, theirs is a 1×1 convolution and ours a linear layer; ``"swapped"``, theirs
            has the two input channels the other way round.
        need: ``"always"``, theirs has it; ``"maybe"``, it has it if ours has; ``"rarely"``, it has an option for it,
            and does without where ours is zero; ``"never"``, it has no place for it, and means zero.
    """

    ours: str
    theirs: str
    form: Form = "same"
    need: Need = "always"


@dataclass(frozen=True)
class Layout:
    """The keys of one class of attention.

    Attributes:
        name: Whose it is, and what.
        mechanism: Which of our mechanisms it is.
        parts: Its tensors.
        stands: The name that a residual block gives the module; empty where its parts stand in the block itself.
        together: Names of theirs that are there all or none.
        renames: How their network's other keys become the host's, as a regular expression and its replacement.
    """

    name: str
    mechanism: str
    parts: tuple[Part, ...]
    stands: str
    together: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()


def _layers(ours: str, first: str, second: str, form: Form, biases: Need) -> tuple[Part, ...]:
    """The two layers of a bottleneck."""
    names = ((f"{ours}fc1", first), (f"{ours}fc2", second))
    weights = tuple(Part(f"{our}.weight", f"{their}.weight", form) for our, their in names)
    return weights + tuple(Part(f"{our}.bias", f"{their}.bias", need=biases) for our, their in names)


def _norm(theirs: str) -> tuple[Part, ...]:
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return tuple(Part(f"spatial.norm.{name}", f"{theirs}.{name}", need="maybe") for name in names)


def _se(
    name: str,
    layers: tuple[str, str],
    form: Form,
    stands: str,
    biases: Need = "always",
    renames: tuple[tuple[str, str], ...] = (),
) -> Layout:
    first, second = layers
    return Layout(name, "squeeze_excite", _layers("", first, second, form, biases), stands, renames=renames)


_CAFFE = ((r"^layer0\.", ""), (r"^last_linear\.", "fc."))
_PSA_UNITS = [("reduce", False), ("attention", True), ("reduce_p", False), ("attention_p", True), ("proj", False)]


def _psanet() -> tuple[Part, ...]:
    """The authors' names are ours."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    parts: list[Part] = []
    for unit, predicts in _PSA_UNITS:
        names = [f"{unit}.0.weight", *(f"{unit}.1.{name}" for name in norm), *([f"{unit}.3.weight"] * predicts)]
        for name in names:
            sure = not (unit.endswith("_p") or name.endswith("tracked"))
            parts.append(Part(name, name, need="always" if sure else "maybe"))
    return tuple(parts)


LAYOUTS = {
    layout.name: layout
    for layout in (
        _se("timm.se", ("fc1", "fc2"), "pointwise", "se", biases="maybe"),
        _se("torchvision.se", ("fc1", "fc2"), "pointwise", "se"),
        _se("timm.legacy_se", ("fc1", "fc2"), "pointwise", "se_module", renames=_CAFFE),
        _se("timm.efficientnet_se", ("conv_reduce", "conv_expand"), "pointwise", "se"),
        _se("smp.mobileone_se", ("reduce", "expand"), "pointwise", "se"),
        _se("tutorial.se", ("fc.0", "fc.2"), "same", "se", biases="never"),
        _se("monai.se", ("fc.0", "fc.2"), "same", "se_layer"),
        Layout("authors.eca", "eca", (Part("conv.weight", "conv.weight"),), "eca"),
        Layout("timm.eca", "eca", (Part("conv.weight", "conv.weight"),), "se"),
        Layout(
            "tutorial.eca", "eca", (Part("conv.weight", "conv.weight"), Part("", "conv.bias", need="always")), "eca"
        ),
        Layout(
            "authors.cbam",
            "cbam",
            (
                *_layers("channel.", "ChannelGate.mlp.1", "ChannelGate.mlp.3", "same", "always"),
                Part("spatial.conv.weight", "SpatialGate.spatial.conv.weight", need="maybe"),
                *_norm("SpatialGate.spatial.bn"),
            ),
            "cbam",
            together=("SpatialGate.spatial.conv.weight", "SpatialGate.spatial.bn.weight"),
        ),
        Layout(
            "timm.cbam",
            "cbam",
            (
                *_layers("channel.", "channel.fc1", "channel.fc2", "pointwise", "rarely"),
                Part("spatial.conv.weight", "spatial.conv.conv.weight", "swapped"),
                *_norm("spatial.conv.bn"),
            ),
            "se",
            together=("spatial.conv.conv.weight", "spatial.conv.bn.weight"),
        ),
        Layout(
            "tutorial.cbam",
            "cbam",
            (
                *_layers("channel.", "ca.fc1", "ca.fc2", "pointwise", "never"),
                Part("spatial.conv.weight", "sa.conv1.weight", "swapped"),
            ),
            "",
        ),
        Layout(
            "tutorial.cbam_sequential",
            "cbam",
            (
                *_layers("channel.", "ca.fc.0", "ca.fc.2", "pointwise", "never"),
                Part("spatial.conv.weight", "sa.conv1.weight", "swapped"),
            ),
            "",
        ),
        Layout("authors.psanet", "psanet", _psanet(), "psa"),
    )
}

# what looks like a layout and means something else, by a key that gives it away
REFUSED = (
    (
        r"(^|\.)ca\.se\.\d\.weight$",
        "this CBAM adds its input to what it lets through, x + x · gates, which is not the paper's and not ours",
    ),
    (
        r"(^|\.)attention\.0\.conv\.weight$",
        "this PSANet pads its projection, a 1×1 convolution, which makes the map larger by two: its graph is another "
        "than the authors', and the weights would mean something else here",
    ),
)
