"""What does attention add to a whole network, beside the plain one and timm's own attended one?

    uv run python -m benchmarks.speed networks [--compiled] [--only resnet50]

Images of 224×224 (128×128 for the U-Net, 465×465 for PSANet), batch 8 and 1, channels_last, inference and a training
step; ours as they are, after `foveate.optimize`, and each where `foveate build-ops` was run. With `--compiled`, the
ResNet-18 alone, and the plain network, timm's and ours by `torch.compile` too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

import foveate
from benchmarks.speed.gates import inference, plain, training
from benchmarks.speed.timing import Call, side_by_side
from foveate.ops.compiled.library import kernels

# side of the images, and what is attached
HOSTS = {
    "resnet50": (224, ("squeeze_excite", "eca", "cbam")),
    "resnet18": (224, ("squeeze_excite", "cbam")),
    "mobilenet_v2": (224, ("squeeze_excite", "cbam")),
    "unet": (128, ("squeeze_excite", "cbam")),
    "psanet50": (465, ()),
}
_TIMM = {"squeeze_excite": "se", "eca": "eca", "cbam": "cbam"}


def _host(host: str) -> nn.Module:
    if host == "unet":
        import segmentation_models_pytorch as smp

        return smp.Unet("resnet18", encoder_weights=None, classes=2)
    if host == "mobilenet_v2":
        import torchvision

        return torchvision.models.mobilenet_v2()
    if host == "psanet50":
        return foveate.hosts.PSANetHost(50, classes=21, size=465, psa=None, auxiliary=False)
    import timm

    return timm.create_model(host)


def _networks(host: str) -> dict[str, nn.Module]:
    made = {"plain": _host(host)}
    for name in HOSTS[host][1]:
        if host.startswith("resnet"):
            import timm

            layer = {"attn_layer": _TIMM[name]}
            made[f"timm {name}"] = timm.create_model(host, block_args=layer)
        made[f"foveate {name}"] = foveate.attach(_host(host), name, start="paper", example=torch.zeros(1, 3, 64, 64))
    if host == "psanet50":
        made["foveate psanet"] = foveate.hosts.PSANetHost(50, classes=21, size=465, auxiliary=False)
    return made


def _calls(made: dict[str, nn.Module], images: torch.Tensor, phase: str, *, compiled: bool) -> dict[str, Call]:
    """Every network, and copies of the plain and of ours in their other forms."""
    prepare = inference if phase == "inference" else training
    example = images[:1]
    calls = {key: plain(prepare(network, images)) for key, network in made.items()}
    if compiled:
        torch._dynamo.reset()
        torch._dynamo.config.recompile_limit = 64  # counted by function, and all these networks share one `forward`
        for key, network in made.items():
            calls[f"{key}, torch.compile"] = plain(prepare(torch.compile(network, fullgraph=True), images))
        return calls
    for key, network in made.items():
        if key.startswith("timm"):
            continue
        if kernels() is not None and key != "plain":
            calls[f"{key}, built ops"] = prepare(network, images)
        if phase == "inference":
            quick = foveate.optimize(copy.deepcopy(network), example=example)
            calls[f"{key} optimised"] = plain(prepare(quick, images))
            if kernels() is not None and key != "plain":
                calls[f"{key} optimised, built ops"] = prepare(quick, images)
    return calls


def rows(*, compiled: bool = False, names: tuple[str, ...] = tuple(HOSTS)) -> Iterator[dict[str, Any]]:
    """One row a host, batch size and phase."""
    for host in ("resnet18",) if compiled and names == tuple(HOSTS) else names:
        side = HOSTS[host][0]
        for batch, phase in ((8, "inference"), (8, "training"), (1, "inference")):
            if host == "psanet50" and batch == 8:
                continue
            images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
            made = {key: net.to(memory_format=torch.channels_last) for key, net in _networks(host).items()}
            yield {
                "work": host,
                "phase": phase,
                "shape": list(images.shape),
                "layout": "NHWC",
                **side_by_side(_calls(made, images, phase, compiled=compiled), to="plain", seconds=1, rounds=7),
            }
