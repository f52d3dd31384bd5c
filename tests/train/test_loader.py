"""Batches: functions of seed, epoch and sample; begun anywhere; shared; and failures that name the sample."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch

from foveate.errors import DataError, FoveateError
from foveate.train.loader import Epochs, in_order


class Numbers:
    """Samples that are their number; some fail, one kills who reads it."""

    def __init__(self, count: int, *, broken: int = -1, deadly: int = -1) -> None:
        self.names = [f"{number}.png" for number in range(count)]
        self.broken, self.deadly = broken, deadly

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> int:
        if index == self.broken:
            raise OSError("gone")
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def drawn(sample: int, draw: torch.Generator | None) -> tuple[int, float]:
    return sample, -1.0 if draw is None else float(torch.rand((), generator=draw))


def epochs(samples: Any, batch: int = 4, **options: Any) -> Epochs:
    return Epochs(samples, batch, drawn, list, seed=options.pop("seed", 3), **options)


def test_an_epoch_has_every_sample_at_most_once_and_drops_a_short_last_batch() -> None:
    seen = [number for batch in epochs(Numbers(14)) for number, _ in batch]
    assert len(seen) == 12
    assert len(set(seen)) == 12


def test_order_and_chance_change_with_epoch_and_seed_and_with_nothing_else() -> None:
    loader = epochs(Numbers(12))
    first, second = list(loader), list(loader)
    torch.manual_seed(9)
    assert list(epochs(Numbers(12))) == first
    assert second != first
    assert list(epochs(Numbers(12), seed=4)) != first


def test_what_happens_to_a_sample_does_not_depend_on_its_batch() -> None:
    small = dict(sample for batch in epochs(Numbers(12), 3) for sample in batch)
    large = dict(sample for batch in epochs(Numbers(12), 6) for sample in batch)
    assert small == large


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_loader_goes_on_where_its_state_was_taken(stop: int) -> None:
    """After each of six batches in two epochs: the rest is the same, as training sees it."""
    whole = epochs(Numbers(12))
    undisturbed = list(whole) + list(whole)
    loader, seen = epochs(Numbers(12)), []
    state = None
    for _ in range(2):
        for batch in loader:
            seen.append(batch)
            if len(seen) == stop:
                state = loader.position
    again = epochs(Numbers(12))
    assert state is not None
    again.begin_at(state)
    rest = []
    while len(rest) < 6 - stop:
        rest += list(again)
    assert seen[:stop] + rest == undisturbed


def test_two_processes_share_each_batch() -> None:
    whole = list(epochs(Numbers(16), 8))
    halves = [list(epochs(Numbers(16), 8, share=(rank, 2))) for rank in (0, 1)]
    assert [[*a, *b] for a, b in zip(*halves, strict=True)] == whole


def test_a_batch_that_cannot_be_shared_is_refused_with_the_nearest() -> None:
    with pytest.raises(FoveateError, match="nearest that can are 6 and 9"):
        epochs(Numbers(16), 7, share=(0, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers: int) -> None:
    assert list(epochs(Numbers(12), workers=workers)) == list(epochs(Numbers(12)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_named_without_a_traceback(workers: int) -> None:
    with pytest.raises(DataError, match=r"^5\.png cannot be used: OSError: gone$"):
        list(epochs(Numbers(12, broken=5), workers=workers))


def test_a_worker_that_dies_says_which_sample_it_had() -> None:
    with pytest.raises(DataError, match=r"died, with 5\.png in hand"):
        list(epochs(Numbers(12, deadly=5), workers=1))


def test_in_order_each_sample_comes_once_whoever_reads() -> None:
    seen = [n for rank in range(3) for b in in_order(Numbers(11), 4, drawn, list, share=(rank, 3)) for n, _ in b]
    assert sorted(seen) == list(range(11))


@pytest.mark.parametrize(("count", "batch", "processes"), [(9, 4, 2), (1, 2, 3), (8, 1, 3)])
def test_all_processes_get_equally_many_batches_and_what_fills_up_is_told(
    count: int, batch: int, processes: int
) -> None:
    shares = [in_order(Numbers(count), batch, drawn, list, share=(rank, processes)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    counted = [n for share in shares for number, b in enumerate(share) if number < share.own for n, _ in b]
    assert sorted(counted) == list(range(count))
