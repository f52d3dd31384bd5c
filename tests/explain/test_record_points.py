"""An affinity answers about one position, and is never a matrix of all pairs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import foveate
from foveate.attention import maps_of
from foveate.errors import FoveateError

H, W = 4, 6
AFFINITIES = (
    "criss_cross", "danet_position", "disentangled_non_local", "double_attention", "interlaced_sparse", "non_local",
    "non_local:mode=dot_product", "non_local:mode=concatenation", "non_local:subsample=true", "psanet:mask=3+3",
    "psanet:mask=3+3,outside=exclude", "psanet:mask=11+7,softmax=false", "psanet:compact=true",
)  # fmt: skip


def made(spec: str, channels: int = 16) -> nn.Module:
    torch.manual_seed(0)
    module = foveate.create(spec, channels, size=(H, W)).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def features(batch: int, *size: int, channels: int = 16) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def shown(module: nn.Module, x: Tensor) -> list[Tensor]:
    """What the relations themselves show: other code than what mixes, on which points are asked."""
    found: list[Tensor] = []
    handles = [
        point.register_forward_hook(lambda _, __, relation: found.append(relation.dense().detach()))
        for point in maps_of(module).values()
        if point.axes == ("hw->hw",)
    ]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return found


# float32 sums of up to 24 products on top of exponentials of logits below 10: a few hundred roundings of 6e-8
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


@pytest.mark.parametrize("spec", AFFINITIES)
def test_points_are_columns_and_rows_of_the_matrix(spec: str) -> None:
    module, x = made(spec), features(9, H, W)  # as many samples as the mask of 3×3 has cells
    expected = shown(module, x)
    with torch.inference_mode(), foveate.record(nn.Sequential(module)) as maps:
        module(x)
    found = [one for one in maps if one.axes == ("hw->hw",)]
    assert len(found) == len(expected) > 0
    for one, dense in zip(found, expected, strict=True):
        assert one.size is not None
        height, width = one.size
        row, column = height - 1, 1
        number = row * width + column
        torch.testing.assert_close(one.attends_to(row, column).flatten(1), dense[:, :, number], **CLOSE)
        torch.testing.assert_close(one.at(row, column).flatten(1), dense[:, :, number], **CLOSE)
        torch.testing.assert_close(one.attended_by(row, column).flatten(1), dense[:, number], **CLOSE)
        torch.testing.assert_close(one.received().flatten(1), dense.mean(2), **CLOSE)
        assert torch.equal(one.values, dense.float())
        assert dense.std() > 0


@pytest.mark.parametrize("spec", AFFINITIES)
def test_chosen_samples_of_several_passes(spec: str) -> None:
    module, x = made(spec), features(18, H, W)
    with torch.no_grad(), foveate.record(nn.Sequential(module)) as every:
        for batch in x.split(9):
            module(batch)
    with torch.no_grad(), foveate.record(nn.Sequential(module), samples=[16, 1, 4]) as some:
        for batch in x.split(9):
            module(batch)
    for whole, few in zip(every, some, strict=True):
        # in batches of another size sums run in another order
        torch.testing.assert_close(few.values, whole.values[[1, 4, 16]], **CLOSE)
        if few.axes == ("hw->hw",):
            torch.testing.assert_close(few.attends_to(1, 2), whole.attends_to(1, 2)[[1, 4, 16]], **CLOSE)
            torch.testing.assert_close(few.attended_by(1, 2), whole.attended_by(1, 2)[[1, 4, 16]], **CLOSE)


def test_pixels_of_an_image() -> None:
    module = made("danet_position")
    with torch.no_grad(), foveate.record(nn.Sequential(module)) as maps:
        module(features(2, H, W))
    (found,) = maps
    # a map of 4×6 on an image of 40×90: each position covers 10×15 pixels
    assert found.cell(0, 0, (40, 90)) == (0, 0)
    assert found.cell(9, 14, (40, 90)) == (0, 0)
    assert found.cell(10, 15, (40, 90)) == (1, 1)
    assert found.cell(39, 89, (40, 90)) == (3, 5)
    assert found.cell(0, 1, (2, 3)) == (1, 3)  # an image smaller than the map: by the pixel's middle
    assert torch.equal(found.attends_to(20, 50, image=(40, 90)), found.attends_to(2, 3))
    assert torch.equal(found.attended_by(20, 50, image=(40, 90)), found.attended_by(2, 3))
    with pytest.raises(FoveateError, match=r"pixel \(40, 0\) lies outside the image of 40×90"):
        found.attends_to(40, 0, image=(40, 90))
    with pytest.raises(FoveateError, match="outside the map of 4×6"):
        found.attended_by(0, 6)


class Largest(TorchDispatchMode):
    """The most elements that any tensor's memory had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return result


@pytest.mark.parametrize(
    "spec",
    [
        "psanet:mask=97+97",
        pytest.param("psanet:mask=97+97,shrink=1", marks=pytest.mark.slow),
        "non_local",
        "criss_cross",
        "double_attention",
        "interlaced_sparse:block=8+8",
    ],
)
def test_no_matrix_of_all_pairs_on_a_map_of_97(spec: str) -> None:
    module, x = made(spec, 8), features(1, 97, 97, channels=8)
    with Largest() as seen:
        with torch.no_grad(), foveate.record(nn.Sequential(module)) as maps:
            module(x)
        sums = [
            (one.attends_to(150, 299, image=(300, 300)), one.attended_by(150, 0, image=(300, 300)), one.received())
            for one in maps
        ]
    assert all(float(part.abs().sum()) > 0 for one in sums for part in one)
    pairs = {one.size[0] ** 2 * one.size[1] ** 2 for one in maps if one.size}  # psanet shrinks its map to 49×49
    assert 97 * 97 * 8 <= seen.elements < min(pairs) / 4


def test_a_dense_affinity_of_another_library_is_cut() -> None:
    block = pytest.importorskip("ultralytics.nn.modules.block", exc_type=ImportError)
    torch.manual_seed(0)
    module = block.Attention(32, num_heads=2).eval()
    with torch.no_grad(), foveate.record(module, samples=[2]) as maps:
        module(features(3, 3, 4, channels=32))
    (found,) = maps
    assert found.values.shape == (1, 2, 12, 12)
    assert torch.equal(found.attends_to(1, 2), found.values[..., 6].unflatten(-1, (3, 4)))
    assert torch.equal(found.attended_by(1, 2), found.values[:, :, 6].unflatten(-1, (3, 4)))
    torch.testing.assert_close(found.received().sum((2, 3)), torch.ones(1, 2))  # every target's shares add up to one


def test_channels_say_what_all_take_from_each() -> None:
    module = made("danet_channel")
    with torch.no_grad(), foveate.record(nn.Sequential(module)) as maps:
        module(features(2, 5, 5))
    torch.testing.assert_close(maps[0].received(), maps[0].values.mean(2), **CLOSE)


def test_a_relation_that_cannot_be_copied_is_kept_as_it_shows_itself() -> None:
    class Strange:
        """Mixes by a function that it holds."""

        def __init__(self, weights: Tensor) -> None:
            self.size, self.weights = (2, 2), weights

        def mix(self, value: Tensor) -> Tensor:
            return (value.flatten(2) @ self.weights).reshape(value.shape)

        def dense(self) -> Tensor:
            return self.weights

    class Own(foveate.attention.Affinity):
        def __init__(self) -> None:
            super().__init__()
            self.map = foveate.attention.Map("hw->hw")

        def reset_parameters(self) -> None:
            pass

        def gather(self, x: Tensor) -> Tensor:
            return x

        def weigh(self, context: Tensor) -> Any:
            return self.map(Strange(context.flatten(2).mT @ context.flatten(2)))

        def recalibrate(self, x: Tensor, weights: Any, context: Tensor) -> Tensor:
            return weights.mix(context)

    x = features(3, 2, 2)
    with torch.no_grad(), foveate.record(module := Own(), samples=[1]) as maps:
        module(x)
    assert torch.equal(maps[0].values, (x.flatten(2).mT @ x.flatten(2))[1:2])
    assert torch.equal(maps[0].attended_by(1, 0).flatten(1), maps[0].values[:, 2])


def test_a_layers_weights_are_kept_once() -> None:
    module = made("psanet:mask=7+11")
    with torch.no_grad(), foveate.record(nn.Sequential(module)) as maps:
        module(features(1, H, W))
        module(features(1, H, W))
        module.attention[-1].weight.mul_(2)
        module(features(1, H, W))
    chunks: Any = maps.by_name[next(iter(maps.by_name))]
    first, second, third = (chunk.held.relation.masks.bank for chunk in chunks)
    assert first is second
    assert torch.equal(third, 2 * first)
