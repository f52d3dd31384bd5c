"""record keeps what was asked for: places and samples by name and number, statistics of everything."""

import gc
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate import hosts
from foveate.errors import FoveateError, OptionError, PlaceError
from foveate.explain import record_statistics

PLACES = ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"]


def attended(spec: str = "cbam") -> nn.Module:
    torch.manual_seed(0)
    model = foveate.attach(hosts.build("foveate/resnet8", classes=10), spec, start="paper")
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ("layer2.0.bn2", PLACES[1:2]),
        ("layer2", PLACES[1:2]),
        ("layer[23].*", PLACES[1:]),
        (["layer3", "layer1.0"], [PLACES[0], PLACES[2]]),
        (re.compile(r"layer[12]\.0"), PLACES[:2]),
        (lambda place, module: isinstance(module, foveate.catalogue.CBAM) and "3" in place, PLACES[2:]),
        (None, PLACES),
    ],
)
def test_places_by_name(places: Any, expected: list[str]) -> None:
    model = attended()
    with torch.no_grad(), foveate.record(model, places) as maps:
        model(images(2))
    assert list(dict.fromkeys(one.place for one in maps)) == expected
    assert list(maps.emphasis) == expected
    with torch.no_grad(), foveate.record(model) as every:
        model(images(2))
    for one in maps:
        (same,) = [other for other in every.at(one.place) if other.step == one.step]
        assert torch.equal(one.values, same.values)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ("layer2.0.bn1", "'layer2.0.bn1' has no attention; did you mean 'layer2.0.bn2'"),
        ("bn2", r"has no attention; '\*\*.bn2' matches 3, such as 'layer1.0.bn2'"),
        (["layer1", "zzz"], "'zzz' has no attention; known: layer1.0.bn2"),
        (re.compile("head"), "'head' has no attention; known: layer1.0.bn2"),
    ],
)
def test_a_place_without_attention_is_refused(places: Any, words: str) -> None:
    model = attended()
    with pytest.raises(PlaceError, match=words), foveate.record(model, places):
        pass
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("spec", ["cbam", "psanet", "danet_channel"])
def test_samples_by_number_over_all_passes(spec: str) -> None:
    # a relation is made dense for the samples that were kept: with other batches kernels round otherwise, and what was
    # computed in double precision is at most one step of single precision apart
    model, x = attended(spec).double(), images(10).double()
    with torch.no_grad(), foveate.record(model) as every:
        for batch in x.split(4):
            model(batch)
    with torch.no_grad(), foveate.record(model, samples=[7, 0, 9, 12, 7]) as some:
        for batch in x.split(4):
            model(batch)
    assert len(some) == len(every)
    for whole, few in zip(every, some, strict=True):
        torch.testing.assert_close(few.values, whole.values[[0, 7, 9]], rtol=2**-23, atol=0)
    for place, change in some.emphasis.items():
        assert torch.equal(change, every.emphasis[place][[0, 7, 9]])


@pytest.mark.parametrize("number", [-1, 1.5, True])
def test_a_number_that_no_sample_has(number: Any) -> None:
    with pytest.raises(OptionError, match="number of a sample"), foveate.record(attended(), samples=[number]):
        pass


@pytest.mark.parametrize("spec", ["cbam", "psanet", "danet_channel"])
def test_statistics_are_those_of_the_values(spec: str) -> None:
    model, x = attended(spec), images(9)
    with torch.no_grad(), foveate.record(model) as maps:
        for batch in x.split(4):
            model(batch)
    with torch.no_grad(), record_statistics(model) as seen:
        for batch in x.split(4):
            model(batch)
    assert len(seen) == len(maps)
    for one, told in zip(maps, seen, strict=True):
        assert (told.place, told.attachment, told.step, told.axes) == (one.place, one.attachment, one.step, one.axes)
        values = one.values.double()
        if one.size is not None:  # what all take from each, in multiples of an even share
            values = (values.mean(2) * values.shape[1]).unflatten(1, one.size)
        assert told.count == 9
        # relations: float32 sums over a few hundred positions; gates: the same numbers, summed in another order
        close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6} if one.size else {"rtol": 1e-12, "atol": 1e-15}
        torch.testing.assert_close(told.mean, values.mean(0), **close)
        torch.testing.assert_close(told.variance, values.var(0, correction=0), **close)
        torch.testing.assert_close(told.low, values.amin(0), **close)
        torch.testing.assert_close(told.high, values.amax(0), **close)
    assert sum(float(told.variance.max()) > 0 for told in seen) > len(seen) / 2  # one unit for all may be off
    assert [told.step for told in seen.at(PLACES[1])] == [one.step for one in maps.at(PLACES[1])]


def test_statistics_of_chosen_samples() -> None:
    model, x = attended("se"), images(6)
    with torch.no_grad(), record_statistics(model, "layer3", samples=[1, 5]) as seen:
        model(x[:4])
        model(x[4:])
    with torch.no_grad(), foveate.record(model, "layer3") as maps:
        model(x)
    (told,), (one,) = seen, maps
    assert told.count == 2
    # batches of another size take other convolution kernels
    torch.testing.assert_close(told.mean, one.values[[1, 5]].double().mean(0), rtol=1e-4, atol=1e-6)


def test_maps_that_change_their_size_have_no_statistics() -> None:
    model = attended()
    with torch.no_grad(), record_statistics(model), pytest.raises(FoveateError, match="needs images of one size"):
        model(images(2))
        model(images(2)[:, :, :24, :24])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.fixture
def alive() -> Iterator[Callable[[], int]]:
    """Bytes in all tensors that somebody holds, of those made since the test began."""

    def count() -> int:
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) in (Tensor, nn.Parameter)]
        return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())

    gc.collect()
    gc.freeze()  # what there is already is not looked at: it takes seconds
    yield count
    gc.unfreeze()


@pytest.mark.parametrize(("spec", "elements", "passes"), [("se", 16, 1000), ("psanet:shrink=1,mask=3+3", 2 * 9, 100)])
def test_memory_is_bounded_however_much_passes(spec: str, elements: int, passes: int, alive: Callable[[], int]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 1), foveate.create(spec, 16)).eval()
    x = torch.randn(4, 3, 3, 3)
    with torch.no_grad(), record_statistics(model) as seen:
        before = alive()
        for _ in range(10):
            model(x)
        few = alive() - before
        for _ in range(passes - 10):
            model(x)
        many = alive() - before
    assert seen[0].count == 4 * passes
    assert few == many == 32 * elements  # as the docstring says


def test_what_is_not_chosen_is_not_kept(alive: Callable[[], int]) -> None:
    model, x = attended("psanet"), images(4)
    with torch.no_grad(), foveate.record(model, samples=[3, 6]) as maps:
        before = alive()
        model(x)
        model(x)
        few = alive() - before
        for _ in range(5):
            model(x)
        assert alive() - before == few
    assert {len(one.attends_to(0, 0)) for one in maps} == {2}


def test_one_module_that_runs_several_times_has_a_map_for_each_run() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = foveate.create("cbam", 8)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.head(x), self.head(x[:, :, ::2, ::2])

    torch.manual_seed(0)
    model, x = Levels().eval(), torch.randn(4, 8, 8, 8)
    with torch.no_grad(), foveate.record(model, samples=[0, 3]) as maps:
        model(x[:2])
        model(x[2:])
    assert [(one.step, one.run, tuple(one.values.shape)) for one in maps] == [
        ("channel", 0, (2, 8, 1, 1)),
        ("spatial", 0, (2, 1, 8, 8)),
        ("channel", 1, (2, 8, 1, 1)),
        ("spatial", 1, (2, 1, 4, 4)),
    ]
    assert {name: tuple(one.shape) for name, one in maps.emphasis.items()} == {
        "head": (2, 8, 8),
        "head (run 2)": (2, 4, 4),
    }
    with torch.no_grad(), foveate.record(model) as apart:
        model.head(x[:2])
        model.head(x[2:])
    assert [len(one.values) for one in apart] == [4, 4]  # outside of the network there are no passes to count in
