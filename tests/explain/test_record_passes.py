"""What is recorded comes from passes that returned, of any batch, and each place's change stands by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import foveate
from foveate import hosts
from foveate.errors import FoveateError
from foveate.explain import record_statistics
from foveate.explain.heat import heats
from foveate.explain.trust.statistics import gate_statistics


class Levels(nn.Module):
    """Two places, and between them an accident where an image is not a number."""

    def __init__(self, spec: str = "se") -> None:
        super().__init__()
        self.first, self.second = foveate.create(spec, 8, size=(4, 4)), foveate.create(spec, 8, size=(4, 4))

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        x = self.first(x)
        if bool(x.isnan().any()):
            raise ArithmeticError("no number")
        return self.second(x)


def levels(spec: str = "se") -> nn.Module:
    torch.manual_seed(0)
    return Levels(spec).eval()


def images(count: int) -> Tensor:
    return torch.randn(count, 8, 4, 4, generator=torch.Generator().manual_seed(1))


def run(model: nn.Module, x: Tensor) -> None:
    """Batches of two, the second of which fails."""
    for batch in (x[:2], torch.full_like(x[:2], torch.nan), x[2:]):
        try:
            model(batch)
        except ArithmeticError:
            continue


@pytest.mark.parametrize("samples", [None, [1, 2]])
@pytest.mark.parametrize("spec", ["se", "psanet:mask=3+3"])
def test_a_pass_that_failed_halfway_leaves_nothing(spec: str, samples: list[int] | None) -> None:
    model, x = levels(spec), images(4)
    with torch.no_grad(), foveate.record(model, samples=samples) as maps:
        run(model, x)
    with torch.no_grad(), foveate.record(model, samples=samples) as plain:
        model(x[:2])
        model(x[2:])
    assert [(one.place, one.step) for one in maps] == [(one.place, one.step) for one in plain]
    assert all(torch.equal(one.values, other.values) for one, other in zip(maps, plain, strict=True))
    assert all(torch.equal(change, plain.emphasis[place]) for place, change in maps.emphasis.items())
    with torch.no_grad(), record_statistics(model, samples=samples) as seen:
        run(model, x)
    with torch.no_grad(), record_statistics(model, samples=samples) as expected:
        model(x[:2])
        model(x[2:])
    for one, other in zip(seen, expected, strict=True):
        assert one.count == other.count == len(plain[0].values)
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.high, other.high)


def test_a_first_pass_that_failed_leaves_no_map() -> None:
    model = levels()
    with torch.no_grad(), foveate.record(model) as maps, pytest.raises(ArithmeticError):
        model(images(2) * torch.nan)
    assert len(maps) == 0
    assert maps.emphasis == {}


def test_a_network_that_calls_itself_is_recorded_as_often() -> None:
    class Twice(Levels):
        def forward(self, x: Tensor, *, again: bool = True) -> Tensor:
            y = super().forward(x)
            return (y + self(x.flip(3), again=False)) / 2 if again else y

    model, x = Twice().eval(), images(2)
    with torch.no_grad(), foveate.record(model, samples=[0, 3]) as maps:
        model(x)
    with torch.no_grad(), foveate.record(model, samples=[0, 3]) as plain:
        model(x, again=False)
        model(x.flip(3), again=False)
    assert [len(one.values) for one in maps] == [2, 2]
    assert all(torch.equal(one.values, other.values) for one, other in zip(maps, plain, strict=True))
    assert all(torch.equal(change, plain.emphasis[place]) for place, change in maps.emphasis.items())


def test_an_interrupted_program_leaves_whole_passes() -> None:
    model, x = levels(), images(2)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handles: list[Any] = []
    with torch.no_grad(), pytest.raises(KeyboardInterrupt), foveate.record(model) as maps:
        model(x)
        handles.append(model.get_submodule("second").register_forward_pre_hook(interrupt))
        model(x)
    handles[0].remove()
    assert [(one.place, len(one.values)) for one in maps] == [("first", 2), ("second", 2)]


def test_attention_at_a_modules_input_and_output_has_a_map_for_each() -> None:
    torch.manual_seed(0)
    model = hosts.build("foveate/resnet8", classes=10)
    foveate.attach(model, "simam", at="layer2.0.conv1", start="paper")  # of stride 2
    foveate.attach(model, "cbam", at="pre", start="paper")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), foveate.record(model.eval(), "layer2.0.conv1") as maps:
        model(x)
    assert {one.place for one in maps} == {"layer2.0.conv1"}
    found = {name: tuple(change.shape) for name, change in maps.emphasis.items()}
    assert found == {"layer2.0.conv1 (input)": (2, 32, 32), "layer2.0.conv1": (2, 16, 16)}
    assert set(heats(maps).maps) == set(found)


@pytest.mark.parametrize("spec", ["cbam", "psanet:mask=3+3", "danet_channel"])
def test_a_batch_of_nothing_adds_nothing(spec: str) -> None:
    model, x = levels(spec), images(3)
    with torch.no_grad(), record_statistics(model) as seen:
        for batch in (x[:0], x[:2], x[:0], x[2:]):
            model(batch)
    with torch.no_grad(), record_statistics(model) as plain:
        model(x[:2])
        model(x[2:])
    for one, other in zip(seen, plain, strict=True):
        assert one.count == 3
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.variance, other.variance)
        assert torch.equal(one.low, other.low)
    with torch.no_grad(), foveate.record(model) as maps:
        for batch in (x[:0], x):
            model(batch)
    assert [len(one.values) for one in maps] == [3] * len(plain)
    batches = [x[:0], x[:2], x[:0], x[2:]]
    assert gate_statistics(model, batches) == gate_statistics(model, [x[:2], x[2:]])


def test_a_data_set_of_nothing_has_no_statistics() -> None:
    with torch.no_grad(), record_statistics(levels()) as seen:
        levels()(images(0))
    assert len(seen) == 0
    with pytest.raises(FoveateError, match="no attention ran"):
        gate_statistics(levels(), [images(0)])


class Again(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=True)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_of_checkpointing_that_forgets_the_graph_it_says_which_does_not() -> None:
    model, x = Again(levels()), images(2)
    with foveate.record(model, gradients=True) as maps:
        scores = model(x.requires_grad_())
    with pytest.raises(FoveateError, match=r"no graph to go back along.*use_reentrant=False"):
        maps.differentiate(scores[:, 3])
    with pytest.raises(FoveateError, match=r"no gradient reached.*use_reentrant=False"):
        maps[0].weighted()


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_a_compiled_network_runs_eagerly_while_it_is_heard(backend: str) -> None:
    """Its graph was made before there were hooks, and holds no maps."""
    torch._dynamo.reset()
    model, x = nn.Sequential(foveate.create("se", 8), nn.Identity()).eval(), images(2)
    compiled: Any = torch.compile(model, backend=backend, fullgraph=True)
    with torch.no_grad():
        compiled(x)
        with foveate.record(compiled) as maps:
            compiled(x)
        with record_statistics(compiled) as seen:
            compiled(x)
    assert [one.place for one in maps] == [one.place for one in seen] == ["0"]
    assert list(maps.emphasis) == ["0"]
