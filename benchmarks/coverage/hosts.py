"""A network made ready to be checked: lively values, the smallest input that runs, and what it was before."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate import hosts
from foveate.surgery.places import default_example

from . import trees
from .networks import Network

SIDES = {4: (64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 336, 384, 448), 5: (32, 48, 64, 96, 112, 224)}


class HostError(Exception):
    """The network itself, without attention, cannot be built or run here."""


@dataclass
class Host:
    """A network as it was before anything was attached.

    Attributes:
        network: Which it is.
        model: It, in evaluation mode; attention is attached to this one and taken out again.
        x: Two inputs.
        output: What it returns for them.
        state: A copy of its state dict.
        modules: Its modules by every path they have.
        attributes: Of each module, the public attributes and their values.
    """

    network: Network
    model: nn.Module
    x: Tensor
    output: Any
    state: dict[str, Any]
    modules: dict[str, nn.Module]
    attributes: dict[str, dict[str, Any]]

    @property
    def is_meta(self) -> bool:
        """Whether it has shapes, and no values."""
        return self.x.is_meta

    def run(self, model: nn.Module | None = None) -> Any:
        """What a network returns for the two inputs in evaluation mode; this one if none is given."""
        torch.manual_seed(0)
        with torch.no_grad():
            return (self.model if model is None else model).eval()(self.x)

    def learn_from(self, model: nn.Module, mode: str) -> Any:
        """What a network returns in one of its modes, with a graph; a training detector returns its losses."""
        torch.manual_seed(0)
        model.train(mode != "evaluation mode")
        for module in model.modules():
            if re.search("drop|stochastic", type(module).__name__, re.IGNORECASE):
                module.eval()  # two steps are few: what is dropped in both has no gradient
        with torch.enable_grad():
            if mode.startswith("features"):
                detector: Any = model
                return detector.backbone(detector.transform(list(self.x))[0].tensors)
            return model(self.x, _targets(self.x)) if self.network.detector and model.training else model(self.x)

    @property
    def modes(self) -> tuple[str, str]:
        """How it may learn, best first: a loss may not look at every feature, and a norm may refuse two images."""
        second = "features of the training backbone" if self.network.detector else "evaluation mode"
        return "training mode", second


def prepare(network: Network) -> Host:
    """Build a network, give it lively weights, find the smallest input that it runs on, and note what it is.

    Raises:
        HostError: If the network cannot be built or run, or returns nothing that could be compared.
    """
    torch.manual_seed(network.number)
    try:
        model = network.build().eval()
    except Exception as error:
        raise HostError(f"cannot be built ({type(error).__name__}: {error})") from error
    plain = copy.deepcopy(model.state_dict())
    reason = ""
    x = smallest_input(network, model)
    for strength in (1.0, 0.2, 0.0):
        model.load_state_dict(plain)
        enliven(model, strength, network.number)
        with torch.no_grad():
            first, output = model(x), model(x)
        reason = trees.trouble(output)
        if not reason and not trees.same(first, output):
            reason = "its outputs differ from one run to the next"
        if not reason:
            return _noted(network, model, x, output)
    raise HostError(reason)


def prepare_without_values(network: Network) -> Host:
    """The same on the meta device, for a network that is too large to compute with.

    Raises:
        HostError: If it runs on none of the sizes.
    """
    model = on_meta(network)
    x = smallest_input(network, model)
    with torch.no_grad():
        return _noted(network, model, x, model(x))


def on_meta(network: Network) -> nn.Module:
    """A network without values, in evaluation mode."""
    try:
        with torch.device("meta"):
            return network.build().eval()
    except (NotImplementedError, RuntimeError):  # it computes while it is built
        return network.build().eval().to("meta")


def _noted(network: Network, model: nn.Module, x: Tensor, output: Any) -> Host:
    state = copy.deepcopy(model.state_dict())  # with the versions of its modules
    modules = dict(model.named_modules(remove_duplicate=False))
    attributes = {path: dict(public_attributes(module)) for path, module in modules.items()}
    return Host(network, model, x, output, state, modules, attributes)


def smallest_input(network: Network, model: nn.Module) -> Tensor:
    """Two random images, or volumes, of the smallest size that the network runs on, best in training mode too.

    Its statistics are other ones afterwards.

    Raises:
        HostError: If it runs on none.
    """
    channels = 1 if network.source == "monai" else 3
    device = next(model.parameters()).device
    runs: Tensor | None = None
    error: Exception | None = None
    for side in (64,) if network.detector else SIDES[network.axes]:
        shape = (2, channels, *((16,) if network.is_video else ()), *(side,) * (network.axes - 2 - network.is_video))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)
        try:
            with torch.no_grad():
                model.eval()(x)
                runs = x if runs is None else runs
                if not network.detector:
                    model.train()(x)
            return x
        except Exception as raised:
            error = raised
        finally:
            model.eval()
    if runs is not None:
        return runs
    raise HostError(f"runs on none of the sizes tried ({type(error).__name__}: {error})") from error


def native_image(model: nn.Module, network: Network) -> Tensor:
    """An image of the size that a network was made for, where the network is."""
    shape = (3, 16, 224, 224)
    if not network.is_video:
        shape = model.pretrained_cfg["input_size"] if network.source == "timm" else hosts.input_shape(model)
    return torch.zeros(1, *shape, device=next(model.parameters()).device)


def trouble_without_example(network: Network) -> str:
    """Why the input that foveate guesses, where a person gives none, does not run; empty if it does."""
    try:
        model = on_meta(network)
        model(default_example(model))
    except (NotImplementedError, RuntimeError, ValueError):  # it needs values
        try:
            model = network.build().eval()
            with torch.no_grad():
                model(default_example(model))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def enliven(model: nn.Module, strength: float, seed: int) -> None:
    """Make nothing trivially zero, one or equal: statistics, norms, biases and layer scales vary at random.

    With weights as they are initialised, many branches end in zeros, and attention there could do anything unseen.
    """
    random = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=random).to(like) * strength

    with torch.no_grad():
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.add_(noise(buffer), alpha=0.1)
                elif name == "running_var":
                    buffer.mul_(torch.exp(0.2 * noise(buffer)))
            for name, parameter in module.named_parameters(recurse=False):
                constant = parameter.flatten()[:1] if parameter.is_floating_point() and parameter.numel() else None
                if constant is None or not bool((parameter == constant).all()):
                    continue
                value = float(constant)
                if "bias" in name:
                    parameter.add_(noise(parameter), alpha=0.1)
                elif abs(value) < 0.1 and strength:  # a layer scale, or the last norm of a branch
                    parameter.copy_(0.3 + 0.1 * noise(parameter))
                else:
                    parameter.mul_(1 + 0.1 * noise(parameter))


def public_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a person may ask of a module, children excepted: its own public names and those of its class."""
    names = {*vars(module), *module._parameters, *module._buffers}
    for owner in type(module).__mro__[: type(module).__mro__.index(nn.Module)]:
        names |= set(vars(owner))
    for name in sorted(names):
        if name.startswith("_") or hasattr(nn.Module, name) or name in module._modules:
            continue
        try:
            yield name, getattr(module, name)
        except Exception:  # noqa: S112 - a property that the host itself cannot answer is none
            continue


def _targets(images: Tensor) -> list[dict[str, Tensor]]:
    """What a detector of torchvision learns from: one object an image, with its mask and keypoints."""
    height, width = images.shape[-2:]
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[:, 8:40, 8:40] = 1
    keypoints = torch.tensor([[[12.0 + i, 12.0 + i, 1.0] for i in range(17)]])
    box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    return [{"boxes": box, "labels": torch.tensor([1]), "masks": mask, "keypoints": keypoints} for _ in images]
