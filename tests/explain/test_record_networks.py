"""Whatever the network is and however it runs, the output is what it was and the maps are the plain network's."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import foveate
from foveate import hosts
from foveate.attention import maps_of

Plain = list[Tensor]


def moved(model: nn.Module) -> nn.Module:
    """Away from where parameters start, so that maps say something."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        if name.endswith(("gamma", "blend")):
            parameter.data.fill_(0.7)
    return model


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def resnet(spec: str) -> tuple[nn.Module, Any]:
    x = randn(3, 3, 32, 32)
    return foveate.attach(hosts.build("foveate/resnet8", classes=10), spec, example=x), x


def detector() -> tuple[nn.Module, Any]:
    from foveate.hosts.detectors import build_detector

    network: Any = build_detector("foveate/fcos_resnet18_fpn", classes=3, size=64)[0]
    network.score_thresh = 0.0
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))]
    return foveate.attach(network, "cbam", at=["residual", "neck"], example=images), images


def unet() -> tuple[nn.Module, Any]:
    from foveate.hosts.unet import UNet

    x = randn(2, 3, 32, 32)
    model = UNet(classes=3, width=8, depth=2)
    return foveate.attach(foveate.attach(model, "attention_gate", example=x), "scse", at="down.*", example=x), x


def volume(spec: str, dimensions: int) -> tuple[nn.Module, Any]:
    convolution, norm = {1: (nn.Conv1d, nn.BatchNorm1d), 3: (nn.Conv3d, nn.BatchNorm3d)}[dimensions]
    x = randn(2, 3, *[9, 5, 6][:dimensions])
    model = nn.Sequential(convolution(3, 16, 3, padding=1), norm(16), nn.ReLU(), convolution(16, 4, 1))
    return foveate.attach(model, spec, at="1", example=x), x


def foreign() -> tuple[nn.Module, Any]:
    timm = pytest.importorskip("timm")
    model = timm.create_model("seresnet18", num_classes=5)
    return model, randn(2, 3, 64, 64)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "gate": lambda: resnet("cbam"),
    "affinity": lambda: resnet("psanet"),
    "channels": lambda: resnet("danet_channel"),
    "foreign": foreign,
    "detector": detector,
    "unet": unet,
    "signal": lambda: volume("squeeze_excite", 1),
    "signal, affinity": lambda: volume("danet_position", 1),
    "volume": lambda: volume("squeeze_excite", 3),
    "volume, affinity": lambda: volume("danet_position", 3),
}


def built(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model, inputs = NETWORKS[name]()
    return moved(model), inputs


@contextmanager
def plainly(model: nn.Module) -> Iterator[Plain]:
    """The maps by hooks of the test's own: what passes our points, and what timm's gates return."""
    found: Plain = []

    def keep(_: Any, __: Any, weights: Any) -> None:
        found.append((weights if isinstance(weights, Tensor) else weights.dense()).detach().clone().float())

    points = [*maps_of(model).values(), *(m.gate for m in model.modules() if type(m).__name__ == "SEModule")]
    handles = [point.register_forward_hook(keep) for point in points]
    yield found
    for handle in handles:
        handle.remove()


def same(one: Any, other: Any) -> bool:
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def check(model: nn.Module, inputs: Any, *, run: nn.Module | None = None, context: Any = nullcontext) -> Any:
    """Run a copy plainly, the network itself while it is recorded, and compare."""
    twin = copy.deepcopy(model)
    flags = [module.training for module in model.modules()]
    with context(), plainly(twin) as expected:
        plain = twin(inputs)
    network = model if run is None else run
    with foveate.record(network) as maps, context():
        output = network(inputs)
    assert same(output, plain)
    assert same(dict(model.named_buffers()), dict(twin.named_buffers()))
    assert len(maps) == len(expected) > 0
    for one, values in zip(maps, expected, strict=True):
        assert torch.equal(one.values, values)
    assert any(float(values.std()) > 0 for values in expected)
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return maps


def half() -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluated(name: str) -> None:
    model, inputs = built(name)
    check(model.eval(), inputs, context=torch.no_grad)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "detector" else name for name in NETWORKS]
)
def test_frozen_with_gradients_on(name: str) -> None:
    model, inputs = built(name)
    maps = check(model.eval().requires_grad_(False), inputs)
    assert not any(one.values.requires_grad for one in maps)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "foreign" else name
        for name in NETWORKS
        if name != "detector"
    ],
)
def test_trained_in_half_precision(name: str) -> None:
    model, inputs = built(name)
    check(model.train(), inputs)
    check(model.train(), inputs, context=half)


def test_a_detector_in_training() -> None:
    model, images = built("detector")
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([2])}]
    twin = copy.deepcopy(model)
    with plainly(twin) as expected:
        plain = twin.train()(images, targets)
    with foveate.record(model.train()) as maps:
        losses = model(images, targets)
    assert same(losses, plain)
    assert all(torch.equal(one.values, values) for one, values in zip(maps, expected, strict=True))


@pytest.mark.parametrize("name", ["signal, affinity", pytest.param("foreign", marks=pytest.mark.slow)])
def test_compiled(name: str) -> None:
    model, inputs = built(name)
    torch._dynamo.reset()
    compiled: Any = torch.compile(model.eval(), backend="eager")
    with torch.no_grad():
        compiled(inputs)
        check(model, inputs, run=compiled)


@pytest.mark.parametrize("name", ["gate", "affinity", "foreign", "unet"])
def test_wrapped_for_distributed_training(name: str, tmp_path: Path) -> None:
    distributed = torch.distributed
    model, inputs = built(name)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model.train())
        check(model, inputs, run=wrapped)
        with foveate.record(wrapped, gradients=True) as maps:
            output = wrapped(inputs)
        maps.differentiate(output.square())
        assert any(float(one.weighted().values.max()) > 0 for one in maps)
        assert all(parameter.grad is None for parameter in model.parameters())
    finally:
        distributed.destroy_process_group()


def test_inside_inference_mode() -> None:
    model, inputs = built("affinity")
    with torch.inference_mode():
        with foveate.record(model.eval()) as maps:
            model(inputs)
        inside = maps[0].attends_to(1, 2)
    assert torch.equal(maps[0].attends_to(1, 2), inside)
    assert torch.equal(inside.flatten(1).sum(1) > 0, torch.ones(3, dtype=torch.bool))


def test_a_pass_that_is_computed_again_is_recorded_once() -> None:
    from torch.utils.checkpoint import checkpoint

    model, x = built("gate")
    model.eval()
    with foveate.record(model) as maps:
        out: Any = checkpoint(model, x.requires_grad_(), use_reentrant=False)
        out.sum().backward()
    with foveate.record(model) as plain:
        model(x)
    assert [len(one.values) for one in maps] == [3] * len(plain)
    assert all(torch.equal(a.values, b.values) for a, b in zip(maps, plain, strict=True))
    assert {len(change) for change in maps.emphasis.values()} == {3}
    with foveate.record(model, samples=[1, 4]) as some:
        for _ in range(2):
            checkpoint(model, x, use_reentrant=False).sum().backward()
    assert [len(one.values) for one in some] == [2] * len(plain)
    assert {len(change) for change in some.emphasis.values()} == {2}


def test_positions_of_signals_and_volumes_are_asked_in_rows() -> None:
    for name, size in (("signal, affinity", (9, 1)), ("volume, affinity", (45, 6))):
        model, x = built(name)
        with torch.no_grad(), foveate.record(model.eval()) as maps:
            model(x)
        assert maps[0].size == size
        torch.testing.assert_close(maps[0].attends_to(4, 0).sum((1, 2)), torch.ones(2))
