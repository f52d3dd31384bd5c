"""Fit a network and look at what it learned; Lightning does the work and keeps quiet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from foveate.study.training.batches import Labelled, OrderedBatches
from foveate.study.training.classification import Classification, Curves, Pixels, Recipe, pl
from foveate.train.lightning import interruptible, quiet


@dataclass(frozen=True)
class Outcome:
    """What a network says about images it did not learn from.

    Attributes:
        loss: Mean cross-entropy.
        accuracy: Share of images whose class is right.
        predictions: The class it says, image by image.
    """

    loss: float
    accuracy: float
    predictions: Int64[Tensor, " n"]


def fit(
    network: nn.Module,
    pixels: Pixels,
    train: Labelled,
    validation: Labelled,
    recipe: Recipe,
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: Callable[[Curves], None] | None = None,
) -> Curves:
    """Train a network in place; it ends on the CPU.

    Nothing is printed and no file is written. Order and augmentation of the images depend on the seed only, so two
    networks fitted with the same seed see the same batches. The global random stream starts from the seed too, for
    networks that draw from it while they train (dropout), and is put back at the end.

    Args:
        network: From normalised images to logits.
        pixels: From bytes to normalised images.
        train: Images to learn from.
        validation: Images to watch; they change nothing.
        recipe: How to train.
        seed: Of everything random.
        device: ``"cpu"`` or ``"cuda"``.
        on_epoch: Called at the end of every epoch with the curves so far.

    Returns:
        The learning curves.

    Raises:
        KeyboardInterrupt: If a person interrupts it.

    Example:
        >>> from foveate.data import fashion_mnist
        >>> data = fashion_mnist()
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> fit(network, Pixels((0.3,), (0.4,)), data.test, data.validation, Recipe(epochs=2), seed=0).epoch
        [1, 2]
    """
    with quiet(), _deterministic(device), torch.random.fork_rng(devices=_cuda(device)):
        torch.manual_seed(seed)
        task = Classification(network, pixels, train, validation, recipe, seed, on_epoch)
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        task.train()
        with interruptible():
            trainer.fit(task)
        network.cpu()
    return task.curves


def evaluate(
    network: nn.Module, pixels: Pixels, images: Labelled, *, device: str = "cpu", batch_size: int = 64
) -> Outcome:
    """Look at images without learning from them.

    Args:
        network: From normalised images to logits; it is left in evaluation mode, on the CPU.
        pixels: From bytes to normalised images.
        images: What to look at.
        device: ``"cpu"`` or ``"cuda"``.
        batch_size: Images at once.

    Example:
        >>> from foveate.data import fashion_mnist
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> _ = nn.init.zeros_(network[1].weight), nn.init.zeros_(network[1].bias)  # knows nothing of ten classes
        >>> outcome = evaluate(network, Pixels((0.3,), (0.4,)), fashion_mnist().test)
        >>> outcome.accuracy, round(outcome.loss, 3)
        (0.1, 2.303)
    """
    network.eval().to(device)
    pixels.to(device)
    logits: list[Tensor] = []
    with torch.inference_mode():
        for batch, _ in OrderedBatches(images, batch_size):
            logits.append(network(pixels(batch.to(device))).float().cpu())
    network.cpu()
    pixels.cpu()
    together = torch.cat(logits)
    predictions = together.argmax(1)
    return Outcome(
        float(F.cross_entropy(together, images.labels)),
        float((predictions == images.labels).double().mean()),
        predictions,
    )


def _cuda(device: str) -> list[int]:
    return [torch.cuda.current_device()] if device == "cuda" else []


@contextmanager
def _deterministic(device: str) -> Generator[None]:
    """On a GPU choose kernels that give the same numbers twice, where there are any; a CPU does so by itself."""
    if device != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        with warnings.catch_warnings():  # some have no such kernel, which a person who compares cannot change
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
