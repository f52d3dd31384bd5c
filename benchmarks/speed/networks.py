"""What does attention add to a whole network, beside the plain one and timm's own attended one?

    uv run python -m benchmarks.speed networks [--only resnet50]

Images of 224×224 (128×128 for the U-Net), batch 8 and 1, channels_last, inference and a training step; and
inference after ``foveate.optimize``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

import foveate
from benchmarks.speed.gates import inference, training
from benchmarks.speed.timing import side_by_side

HOSTS = ("resnet50", "resnet18", "mobilenet_v2", "unet")
MECHANISMS = ("squeeze_excite", "eca", "cbam")
_TIMM = {"squeeze_excite": "se", "eca": "eca", "cbam": "cbam"}


def _plain(host: str) -> nn.Module:
    if host == "unet":
        import segmentation_models_pytorch as smp

        return smp.Unet("resnet18", encoder_weights=None, classes=2)
    if host == "mobilenet_v2":
        import torchvision

        return torchvision.models.mobilenet_v2()
    import timm

    return timm.create_model(host)


def _networks(host: str) -> dict[str, nn.Module]:
    made = {"plain": _plain(host)}
    for name in MECHANISMS:
        if host.startswith("resnet"):
            import timm

            layer = {"attn_layer": _TIMM[name]}
            made[f"timm {name}"] = timm.create_model(host, block_args=layer)
        example = torch.zeros(1, 3, 64, 64)
        made[f"foveate {name}"] = foveate.attach(_plain(host), name, start="paper", example=example)
    return made


def _optimised(made: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of the plain and of our networks, optimised."""
    ours = {key: net for key, net in made.items() if not key.startswith("timm")}
    return {key: foveate.optimize(copy.deepcopy(net), example=torch.zeros(1, 3, 64, 64)) for key, net in ours.items()}


def rows(*, compiled: bool = False, names: tuple[str, ...] = HOSTS) -> Iterator[dict[str, Any]]:  # noqa: ARG001
    """One row a host, batch size and phase."""
    for host in names:
        side = 128 if host == "unet" else 224
        for batch in (8, 1):
            images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
            made = {key: net.to(memory_format=torch.channels_last) for key, net in _networks(host).items()}
            for phase, prepare in (("inference", inference), ("training", training)):
                if phase == "training" and batch == 1:
                    continue
                calls = {key: prepare(net, images) for key, net in made.items()}
                if phase == "inference":
                    calls |= {f"{key} optimised": prepare(net, images) for key, net in _optimised(made).items()}
                yield {
                    "work": host,
                    "phase": phase,
                    "shape": list(images.shape),
                    "layout": "NHWC",
                    **side_by_side(calls, to="plain", seconds=1, rounds=7),
                }
