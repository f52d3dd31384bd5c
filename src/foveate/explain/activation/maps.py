"""Grad-CAM and its kin, by the package `grad-cam`, on any network and without a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.errors import FoveateError, MissingExtraError, OptionError, PlaceError, check_at_least, nearest
from foveate.explain.activation.layers import target_layer
from foveate.explain.at_rest import at_rest
from foveate.explain.scores import Score, answers, as_many, class_logit

METHODS = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "eigengradcam": "EigenGradCAM",
    "eigencam": "EigenCAM",
    "scorecam": "ScoreCAM",
}


def class_activation(
    network: nn.Module,
    images: Float[Tensor, "n c h w"],
    targets: Sequence[Any] | None = None,
    *,
    method: str = "gradcam",
    layer: str | None = None,
    score: Score = class_logit,
    batch_size: int = 16,
) -> Float[Tensor, "n h w"]:
    """Class activation maps at the images' size, from 0 to 1 each; all zeros where nothing speaks for the target.

    Frozen networks have them too: gradients are taken back to the image. Nothing is left behind, no hook, no gradient,
    no mode; gradients that parameters had stay theirs. Compiled and distributed networks are seen through.

    Args:
        network: From images to answers; see :func:`~foveate.explain.scores.answers`.
        images: As the network takes them.
        targets: What is asked about each image, as the score wants it; the class it is taken for, if ``None``.
        method: ``"gradcam"`` (Selvaraju et al., 2017) or another of :data:`METHODS`.
        layer: Path of the module whose output is weighed; the one of :func:`target_layer` if ``None``.
        score: Whose evidence: a class's logit, :func:`~foveate.explain.scores.mask_logit` of a mask, or
            :func:`~foveate.explain.scores.box_score` of a detector's box.
        batch_size: How many images go through the network at once.

    Raises:
        OptionError: If the method does not exist, images and targets do not pair, or images are no images.
        PlaceError: If the layer does not exist, or none can be chosen.
        FoveateError: If the score has no gradient with respect to the layer.
        MissingExtraError: If grad-cam is not installed.

    Example:
        >>> from foveate import hosts
        >>> network = hosts.build("foveate/resnet8", classes=10)
        >>> class_activation(network, torch.randn(2, 3, 32, 32), [3, 5]).shape
        torch.Size([2, 32, 32])
    """
    if method not in METHODS:
        raise OptionError(f"there is no class activation map '{method}'; {nearest(method, METHODS)}")
    if images.ndim == 5:
        raise OptionError(
            "class activation maps of volumes are MONAI's: monai.visualize.GradCAM(nn_module=network, "
            "target_layers='...')(x=volume); here an image is (batch, channels, height, width)"
        )
    if images.ndim != 4:
        raise OptionError(f"images are (batch, channels, height, width), not {tuple(images.shape)}")
    check_at_least("batch_size", batch_size, 1)
    if targets is None and score is not class_logit:
        raise OptionError("only of classes a target can be chosen for you: give targets for this score")
    if targets is not None:
        as_many(images, targets)
    make = _method(METHODS[method])
    with at_rest(network, gradients=True) as quiet, _untouched(quiet):
        path = target_layer(quiet, images[:1]) if layer is None else layer
        module = _module(quiet, path)
        if layer is not None:
            _check_layer(quiet, module, path, images[:1])
        parts: list[Tensor] = []
        for start in range(0, len(images), batch_size):
            some = slice(start, start + batch_size)
            asked = None if targets is None else list(targets[some])
            parts.append(_maps(make, quiet, module, path, images[some], asked, score))
    return torch.cat(parts)


def _maps(
    make: Any, network: nn.Module, module: nn.Module, path: str, images: Tensor, targets: Any, score: Score
) -> Tensor:
    if targets is None:
        with torch.no_grad():
            targets = [int(answer.argmax()) for answer in answers(network, images)]
    read: list[Callable[[Any], Tensor]] = [lambda said, target=target: score(said, target) for target in targets]
    # what is kept is a copy: the module that follows may change the map in place
    cam = make(_Rows(network), [module], reshape_transform=torch.clone)
    cam.compute_input_gradient = cam.uses_gradients
    try:
        maps = cam.forward(images.detach(), read)
    except RuntimeError as error:
        if "does not require grad" not in str(error) and "does not have a grad_fn" not in str(error):
            raise
        raise FoveateError(
            f"the score has no gradient with respect to '{path}': the network stops gradients on the way; name a layer "
            "behind that with layer="
        ) from error
    finally:
        cam.activations_and_grads.release()
    # an image without evidence becomes 0 / 0 in some of the methods
    return torch.from_numpy(maps).float().nan_to_num(0.0)


class _Rows(nn.Module):
    """The network, answering with one row an image, as grad-cam goes through them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> list[Any]:
        return answers(self.network, images)


@contextmanager
def _untouched(network: nn.Module) -> Generator[None]:
    """Parameters without gradients of their own, which come back as they were: grad-cam empties them otherwise."""
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
    try:
        for parameter, _, _ in before:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag, gradient in before:
            parameter.requires_grad_(flag)
            parameter.grad = gradient


def _module(network: nn.Module, path: str) -> nn.Module:
    try:
        return network.get_submodule(path)
    except AttributeError as error:
        known = [name for name, _ in network.named_modules() if name]
        raise PlaceError(f"this network has no module '{path}'; {nearest(path, known)}") from error


def _check_layer(network: nn.Module, module: nn.Module, path: str, image: Tensor) -> None:
    """Refuse a layer that returns no map."""
    seen: list[Any] = []
    handle = module.register_forward_hook(lambda *args: seen.append(args[-1]))  # appending returns None
    try:
        with torch.no_grad():
            network(image)
    finally:
        handle.remove()
    if not seen:
        raise PlaceError(f"'{path}' does not run on these images, and has no map")
    if not all(isinstance(one, Tensor) and one.ndim == 4 for one in seen):
        raise PlaceError(f"'{path}' returns no feature map (batch, channels, height, width) that could be weighed")


def _method(name: str) -> Any:
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise MissingExtraError("grad-cam", "explain") from error
    return getattr(pytorch_grad_cam, name)
