"""What a network's answer for one image is worth: the number that is watched while the image is changed.

A score is a function of the answer for one image and of what is asked about it, its target:

====================  ================================================  =============================================
score                 answer                                            target
====================  ================================================  =============================================
`class_probability`   a number for each class                           the class
`class_logit`         the same                                          the class
`correct`             the same                                          the class
`dice`                a map for each class, or one of a foreground      which pixels, or the class of each
`mask_logit`          the same                                          the same
`box_score`           boxes, scores and labels, as torchvision's        a box and its label
====================  ================================================  =============================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from foveate.data.masks.segmentation import IGNORE
from foveate.errors import FoveateError, OptionError

Score = Callable[[Any, Any], Tensor]
Detection = Mapping[str, Tensor]
# what counts as having found a box, as in VOC
OVERLAP = 0.5


def answers(network: nn.Module, images: Float[Tensor, "b c *size"]) -> list[Any]:
    """What a network says of each image: rows of a tensor, or a detector's boxes.

    A dictionary's map is its ``"out"``, as torchvision's segmenting networks have it; of several tensors the first is
    taken.

    Raises:
        FoveateError: If the network says something else.

    Example:
        >>> [tuple(one.shape) for one in answers(nn.Flatten(), torch.zeros(2, 3, 1, 1))]
        [(3,), (3,)]
    """
    said = network(images)
    if isinstance(said, Mapping) and isinstance(said.get("out"), Tensor):
        said = said["out"]
    if isinstance(said, tuple | list) and said and isinstance(said[0], Tensor):
        said = said[0]
    if isinstance(said, Tensor) and said.ndim > 0 and len(said) == len(images):
        return list(said)
    if isinstance(said, tuple | list) and len(said) == len(images) and all(isinstance(one, Mapping) for one in said):
        return list(said)
    raise FoveateError(
        f"for {len(images)} images this network returns {_shown(said)}, of which no answer to each can be read: give a "
        "module whose forward returns one row of a tensor, or one dictionary of boxes, for each image"
    )


def class_probability(answer: Float[Tensor, " classes"], target: int) -> Float[Tensor, ""]:
    """The softmax probability of a class.

    Example:
        >>> class_probability(torch.zeros(4), 1)
        tensor(0.2500)
    """
    return _classes(answer).float().softmax(0)[target]


def class_logit(answer: Float[Tensor, " classes"], target: int) -> Float[Tensor, ""]:
    """What stands for a class before the softmax.

    Example:
        >>> class_logit(torch.tensor([1.0, 2.0]), 1)
        tensor(2.)
    """
    return _classes(answer)[target]


def correct(answer: Float[Tensor, " classes"], target: int) -> Float[Tensor, ""]:
    """1 where the highest class is the target, otherwise 0.

    Example:
        >>> correct(torch.tensor([1.0, 2.0]), 1)
        tensor(1.)
    """
    return (_classes(answer).argmax() == target).float()


def dice(answer: Float[Tensor, "classes h w"], target: Bool[Tensor, "h w"] | Int[Tensor, "h w"]) -> Float[Tensor, ""]:
    """The mean Dice coefficient of the classes in a mask, 0 aside; of one map, that of what is above zero.

    Where the mask has none of them, 1 if the answer has none either, otherwise 0. Pixels that are 255 in the mask
    belong to no class, and are left out.

    Example:
        >>> dice(torch.tensor([[[2.0, 2.0, -2.0]]]), torch.tensor([[True, False, False]]))
        tensor(0.6667)
    """
    _check_mask(answer, target)
    found = (answer[0] > 0).long() if len(answer) == 1 else answer.argmax(0)
    known = target != IGNORE
    found, there = found[known], target[known].long()
    kinds = there[there > 0].unique()
    if len(kinds) == 0:
        return (found == 0).all().float()
    both = torch.stack([((found == kind) & (there == kind)).sum() for kind in kinds])
    sizes = torch.stack([(found == kind).sum() + (there == kind).sum() for kind in kinds])
    return (2 * both / sizes).mean()


def mask_logit(
    answer: Float[Tensor, "classes h w"], target: Bool[Tensor, "h w"] | Int[Tensor, "h w"]
) -> Float[Tensor, ""]:
    """The mean, over the pixels of a mask's classes but 0 and 255, of what stands for their class before the softmax.

    Raises:
        FoveateError: If the mask has no such pixel.

    Example:
        >>> mask_logit(torch.tensor([[[2.0, 4.0, -2.0]]]), torch.tensor([[True, True, False]]))
        tensor(3.)
    """
    _check_mask(answer, target)
    marked = (target > 0) & (target != IGNORE)
    if not bool(marked.any()):
        raise FoveateError("nothing is marked in this mask: there is no evidence to look for")
    if len(answer) == 1:
        return answer[0][marked].mean()
    return answer[:, marked].gather(0, target[marked].long()[None]).mean()


def box_score(answer: Detection, target: tuple[Float[Tensor, " 4"], int]) -> Float[Tensor, ""]:
    """The highest score of the boxes found that have the label and overlap the box by half (IoU); 0 if there is none.

    Example:
        >>> found = {"boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]])}
        >>> found |= {"scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
        >>> box_score(found, (torch.tensor([0.0, 0, 4, 3]), 1)), box_score(found, (torch.tensor([0.0, 0, 4, 3]), 2))
        (tensor(0.9000), tensor(0.))
    """
    if not isinstance(answer, Mapping) or not {"boxes", "scores", "labels"} <= set(answer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FoveateError(f"a box's score is asked of a detector, whose answer is no {_shown(answer)}")
    box, label = target
    hits = (answer["labels"] == label) & (overlaps(answer["boxes"], box.to(answer["boxes"])) >= OVERLAP)
    scores = answer["scores"][hits]
    # nothing found has no evidence, which is a gradient of zero and not none
    return scores.max() if len(scores) else 0.0 * answer["scores"].sum()


def overlaps(boxes: Float[Tensor, "n 4"], box: Float[Tensor, " 4"]) -> Float[Tensor, " n"]:
    """The intersection over the union of boxes with one, corners as x, y, x, y.

    Example:
        >>> overlaps(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([0.0, 0.0, 2.0, 1.0]))
        tensor([0.5000])
    """
    low, high = torch.maximum(boxes[:, :2], box[:2]), torch.minimum(boxes[:, 2:], box[2:])
    both = (high - low).clamp_min(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return both / (areas - both)


def as_many(images: Tensor | Sequence[Any], targets: Tensor | Sequence[Any], what: str = "targets") -> None:
    """Refuse what does not pair with images.

    Raises:
        OptionError: If there is none, or not one for each.

    Example:
        >>> as_many(torch.zeros(2, 3, 4, 4), [0, 1])
    """
    if len(images) == 0:
        raise OptionError("there is no image")
    if len(images) != len(targets):
        raise OptionError(f"{len(images)} images and {len(targets)} {what} do not pair")


def _classes(answer: Any) -> Tensor:
    if not isinstance(answer, Tensor) or answer.ndim != 1:
        raise FoveateError(f"a class is asked of one number for each class, not of {_shown(answer)}")
    return answer


def _check_mask(answer: Any, target: Tensor) -> None:
    if not isinstance(answer, Tensor) or answer.ndim != 3:
        raise FoveateError(f"a mask is asked of one map for each class, not of {_shown(answer)}")
    if answer.shape[1:] != target.shape:
        raise FoveateError(f"maps of {tuple(answer.shape[1:])} and a mask of {tuple(target.shape)} do not fit")


def _shown(said: Any) -> str:
    return f"a tensor of shape {tuple(said.shape)}" if isinstance(said, Tensor) else type(said).__name__
