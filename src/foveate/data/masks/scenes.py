"""The embedded scenes, with the class of each pixel."""

from __future__ import annotations

import hashlib

from foveate.data.masks.report import MaskReport
from foveate.data.masks.segmentation import MaskedImages, Segmentation
from foveate.data.scenes import SIDE, THINGS, scenes
from foveate.errors import check_at_least

CLASSES = ("ground", *THINGS)


def scene_masks(seed: int = 0) -> Segmentation:
    """Scenes composed of the embedded sample, to segment: clothes on a ground, 96×96 pixels, no download needed.

    Args:
        seed: Other scenes.

    Raises:
        OptionError: If the seed is not a whole number of at least 0.

    Example:
        >>> data = scene_masks()
        >>> image, mask = data.test[0]
        >>> image.shape, mask.shape, data.classes[int(mask[0, 0])]
        (torch.Size([3, 96, 96]), torch.Size([96, 96]), 'ground')
    """
    check_at_least("seed", seed, 0)
    splits: dict[str, MaskedImages] = {}
    pixels: dict[str, dict[str, int]] = {}
    content = hashlib.sha256(f"scene_masks seed={seed}".encode())
    for split in ("train", "validation", "test"):
        pairs = [(scene.pixels, scene.mask) for scene in scenes(split, seed)]
        splits[split] = MaskedImages(pairs, range(len(pairs)), [f"{split}/{number}" for number in range(len(pairs))])
        pixels[split] = {
            name: sum(int((mask == number).sum()) for _, mask in pairs) for number, name in enumerate(CLASSES)
        }
        for image, mask in pairs:
            content.update(image.numpy().tobytes() + mask.numpy().tobytes())
    return Segmentation(
        name="scenes of the Fashion-MNIST sample",
        classes=CLASSES,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        side=SIDE,
        fingerprint=content.hexdigest(),
        report=MaskReport(
            name="scenes of the Fashion-MNIST sample",
            counts={split: len(images) for split, images in splits.items()},
            pixels=pixels,
            sizes=((SIDE, SIDE), (SIDE, SIDE)),
            split="of the training, validation and test images of the sample",
            meaning="drawn with the scenes",
        ),
        official=("train", "validation", "test"),
    )
