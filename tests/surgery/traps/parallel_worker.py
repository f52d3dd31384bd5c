"""One of two processes that train an attended network together: ``parallel_worker.py RANK PROCESSES FOLDER``.

What it saw lies afterwards in ``FOLDER/rank<RANK>.pt``, for the tests to judge.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import foveate
from foveate import hosts
from foveate.errors import FoveateError

MECHANISMS = ("squeeze_excite", "eca", "gather_excite", "cbam", "psanet")
SIDE, BATCH, RATE = 16, 4, 0.1


def network(seed, mechanism="", **options):
    torch.manual_seed(seed)
    model = hosts.build("foveate/resnet8", classes=10)
    if mechanism:
        example = torch.zeros(1, 3, SIDE, SIDE)
        with torch.random.fork_rng():
            torch.manual_seed(seed + 100)
            foveate.attach(model, mechanism, example=example, **options)
    return model


def batch(rank, step):
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(BATCH, 3, SIDE, SIDE, generator=generator), torch.arange(BATCH)


def train(model, optimizer, rank, steps, alive=None):
    losses = []
    for step in steps:
        x, target = batch(rank, step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        if alive is not None:
            alive |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
        losses.append(loss.item())
    return losses


def data_parallel(rank, mechanism):
    model = network(rank, mechanism)  # of different weights: DDP takes those of the first process
    wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=False)
    alive = set()
    train(wrapped, torch.optim.SGD(model.parameters(), lr=RATE), rank, range(2), alive)
    try:
        foveate.attach(wrapped, "eca", name="late")
        refusal = ""
    except FoveateError as error:
        refusal = str(error)
    learned = {key: p.detach().clone() for key, p in model.named_parameters()}
    return {"alive": {key.removeprefix("module.") for key in alive}, "parameters": learned, "refusal": refusal}


def sharded(seed, mechanism, mesh):
    model = network(seed, mechanism)
    for block in (model.layer1[0], model.layer2[0], model.layer3[0]):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def whole(model):
    """The state dict with its shards put together."""
    return {key: value.full_tensor() if hasattr(value, "full_tensor") else value.clone()
            for key, value in model.state_dict().items()}  # fmt: skip


def fully_sharded(rank, mechanism, mesh, folder):
    model, optimizer = sharded(0, mechanism, mesh)
    first = train(model, optimizer, rank, range(2))
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=folder / mechanism)
    saved = whole(model)
    later = train(model, optimizer, rank, range(2, 4))

    other, other_optimizer = sharded(9, mechanism, mesh)
    fresh = whole(other)
    weights, moments = get_state_dict(other, other_optimizer)
    state = {"model": weights, "optimizer": moments}
    dcp.load(state, checkpoint_id=folder / mechanism)
    set_state_dict(other, other_optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    loaded = whole(other)
    resumed = train(other, other_optimizer, rank, range(2, 4))
    x, _ = batch(0, 7)
    with torch.no_grad():
        attended = other.eval()(x)
        foveate.detach(other)
        plain = other(x)
    return {
        "first": first, "later": later, "resumed": resumed, "saved": saved, "fresh": fresh, "loaded": loaded,
        "ended": whole(model), "attended": attended, "plain": plain,
        "sharded": all(type(p).__name__ == "DTensor" for p in model.parameters()),
    }  # fmt: skip


def host_checkpoint(mesh, folder):
    """A sharded checkpoint of the host, into the host with attention."""
    host, _ = sharded(3, "", mesh)
    dcp.save(get_model_state_dict(host), checkpoint_id=folder / "host")
    model, _ = sharded(9, "cbam", mesh)
    before = whole(model)
    state = get_model_state_dict(model)
    wanted = {key: value for key, value in state.items() if ".foveate." not in key}
    dcp.load(wanted, checkpoint_id=folder / "host")
    model.load_state_dict(wanted)  # strict
    return {"host": whole(host), "before": before, "after": whole(model)}


def main(rank, processes, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    mesh = init_device_mesh("cpu", (processes,))
    seen = {"ddp": {name: data_parallel(rank, name) for name in MECHANISMS}}
    seen["fsdp"] = {name: fully_sharded(rank, name, mesh, folder) for name in ("cbam", "psanet")}
    seen["host"] = host_checkpoint(mesh, folder)
    torch.save(seen, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
