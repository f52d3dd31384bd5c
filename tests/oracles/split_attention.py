"""Split attention in NumPy, from Zhang et al., section 3 (equations 1 and 2) and appendix A.1's radix-major layout.

Û = Σ_j U_j over the R splits of a group, s = mean(Û), a_r = e^{G_r(s)} / Σ_j e^{G_j(s)} (σ for R = 1), V = Σ_r a_r U_r.
"""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from timm.layers.split_attn import SplitAttn

import foveate
from foveate.errors import OptionError
from foveate.replacement import ConvShape
from tests.support.convolution import convolved, normed
from tests.support.oracles import Options
from tests.support.weights import gate

POINTWISE = 60  # two norms, softmax
EVERY = 5
CHANNELS = (4, 8, 12, 16, 64)
OPTIONS: list[Options] = [{}, {"radix": 1}, {"radix": 4, "reduction": 2, "min_hidden": 3}]
VARIANTS = {"split_attention:radix=1": 1}
REFUSED = [
    ("splat:radix=0", {}, "radix must be a whole number of at least 1"),
    ("splat:radix=3", {}, "the nearest that can: 15 and 18"),
]
RENAMES = {"bn0.": "norm.", "bn1.": "norm1."}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    radix = options.get("radix", 2)
    hidden = max(channels * radix // options.get("reduction", 4), options.get("min_hidden", 32))
    return 10 * size[0] * size[1] + 10 * channels + hidden + radix + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    radix: int = 2,
    reduction: int = 4,
    min_hidden: int = 32,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    convs = [convolved(x[b], state["conv.weight"], padding=(1, 1), groups=radix) for b in range(batch)]
    splits = np.maximum(normed(np.stack(convs), state, "norm", training), 0)
    splits = splits.reshape(batch, radix, channels, height, width)
    s = splits.sum((1, 3, 4)) / (height * width)
    hidden = max(channels * radix // reduction, min_hidden)
    z = s @ state["fc1.weight"].reshape(hidden, channels).T + state["fc1.bias"]
    z = np.maximum(normed(z, state, "norm1", training), 0)
    logits = (z @ state["fc2.weight"].reshape(-1, hidden).T + state["fc2.bias"]).reshape(batch, radix, channels)
    y = np.zeros_like(x)
    for b in range(batch):
        for c in range(channels):
            for r in range(radix):
                share = np.exp(logits[b, r, c]) / np.exp(logits[b, :, c]).sum()
                if radix == 1:
                    share = 1 / (1 + np.exp(-logits[b, r, c]))
                y[b, c] += share * splits[b, r, c]
    return y


@pytest.mark.parametrize("name", ["resnest50d", "resnest50d_4s2x40d", "resnest50d_1s4x24d"])
def test_split_attention_has_the_parameters_of_the_published_resnests(name: str) -> None:
    """27,483,240 in ResNeSt-50; and its ablations of radix and cardinality."""
    with torch.device("meta"):
        model = timm.create_model(name)
        total = sum(p.numel() for p in model.parameters())
        for module in model.modules():
            if isinstance(module, SplitAttn):
                conv, radix = module.conv, module.radix
                shape = ConvShape(
                    conv.in_channels,
                    conv.out_channels // radix,
                    kernel_size=(3, 3),
                    stride=conv.stride,
                    padding=(1, 1),
                    groups=conv.groups // radix,
                )
                ours = foveate.create("splat", shape, radix=radix)
                total += sum(p.numel() for p in ours.parameters()) - sum(p.numel() for p in module.parameters())
    published = {"resnest50d": 27_483_240, "resnest50d_4s2x40d": 30_417_592, "resnest50d_1s4x24d": 25_677_000}
    assert total == published[name]


def test_split_attention_has_one_sigmoid_for_one_part() -> None:
    module = foveate.create("splat", 4, radix=1).eval()
    torch.nn.init.constant_(module.fc2.bias, 50.0)
    torch.testing.assert_close(gate(module, torch.randn(2, 4, 5, 5)), torch.ones(2, 4, 1, 1))


def test_split_attention_shares_of_the_parts_add_up_to_one() -> None:
    shape = ConvShape(16, 8, kernel_size=(3, 3), padding=(1, 1), groups=2)
    weights = gate(foveate.create("splat", shape, radix=4).eval(), torch.randn(2, 16, 5, 5))
    assert weights.shape == (2, 4, 8)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 8))


def test_split_attention_names_the_channels_that_can_be_split() -> None:
    with pytest.raises(OptionError, match="the nearest that can: 2"):
        foveate.create("splat", 1)
    with pytest.raises(OptionError, match="6 and 8"):
        foveate.create("splat", 7)


def test_split_attention_adds_its_parts_before_it_takes_their_mean() -> None:
    parts = torch.randn(2, 3, 4, 5, 6)
    context = foveate.create("splat", 12, radix=3).gather(parts)
    torch.testing.assert_close(context, parts.sum(1).mean((2, 3)))


def test_split_attention_has_at_least_thirty_two_hidden_units() -> None:
    hidden = {c: foveate.create("splat", c, radix=2, device="meta").fc1.out_channels for c in (16, 64, 128, 512)}
    assert hidden == {16: 32, 64: 32, 128: 64, 512: 256}
