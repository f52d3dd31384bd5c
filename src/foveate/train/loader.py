"""Batches whose content is a function of seed, epoch and sample, and which can begin anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from foveate.data.chance import generator
from foveate.data.samples import Samples
from foveate.errors import DataError, FoveateError

Prepare = Callable[[Any, torch.Generator | None], Any]
Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True)
class _Failure:
    """Why a sample could not be read: sent back from a worker, where an exception would come with its traceback."""

    sentence: str


class _Prepared(Dataset[Any]):
    """Samples as a task wants them; which one is in hand stands where every process can see it."""

    def __init__(self, samples: Samples, prepare: Prepare, key: tuple[int, int] | None, in_hand: Tensor) -> None:
        self.samples, self.prepare, self.key, self.in_hand = samples, prepare, key, in_hand

    def __getitem__(self, index: int) -> Any:
        worker = get_worker_info()
        self.in_hand[worker.id if worker else 0] = index
        try:
            draw = None if self.key is None else generator("augmentation", *self.key, index)
            return self.prepare(self.samples[index], draw)
        except FoveateError as error:
            return _Failure(str(error))
        except Exception as error:
            return _Failure(f"{self.samples.names[index]} cannot be used: {type(error).__name__}: {error}")


class Batches:
    """Some batches, one after the other.

    Args:
        samples: Where they come from.
        batches: The numbers of the samples of each.
        prepare: What a task makes of a sample, given a random stream of its own, or ``None`` for no change by chance.
        collate: What makes one batch of several samples.
        key: Seed and epoch, for the random streams; ``None`` for none.
        workers: Processes that read.
        own: How many of the batches count; what comes after them keeps step with other processes.

    Raises:
        DataError: While it is gone through, if a sample cannot be read or a worker dies, with the sample's name.
    """

    def __init__(
        self,
        samples: Samples,
        batches: Sequence[Sequence[int]],
        prepare: Prepare,
        collate: Collate,
        *,
        key: tuple[int, int] | None = None,
        workers: int = 0,
        own: int | None = None,
    ) -> None:
        self.samples, self.batches, self.prepare, self.collate = samples, batches, prepare, collate
        self.key, self.workers, self.own = key, workers, len(batches) if own is None else own

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        in_hand = torch.full((max(1, self.workers),), -1, dtype=torch.int64).share_memory_()
        loader = DataLoader(
            _Prepared(self.samples, self.prepare, self.key, in_hand),
            batch_sampler=self.batches,  # type: ignore[arg-type]
            num_workers=min(self.workers, len(self.batches)),
            collate_fn=_Collated(self.collate),
            generator=torch.Generator(),  # else it draws a seed for its workers from the global stream
        )
        source = iter(loader)
        while True:
            try:
                batch = next(source)
            except StopIteration:
                return
            except RuntimeError as error:
                if "worker" not in str(error):
                    raise
                names = ", ".join(self.samples.names[index] for index in in_hand.tolist() if index >= 0)
                raise DataError(
                    f"a process that reads samples died, with {names or 'nothing'} in hand: try workers=0 to see why, "
                    "and look at the memory"
                ) from error
            if isinstance(batch, _Failure):
                raise DataError(batch.sentence)
            yield batch


@dataclass(frozen=True)
class _Collated:
    collate: Collate

    def __call__(self, samples: list[Any]) -> Any:
        return next((one for one in samples if isinstance(one, _Failure)), None) or self.collate(samples)


class Epochs:
    """The batches of one epoch after the other, by seed; it can be stopped and begun again anywhere.

    Going through it once is an epoch. The order of samples is a function of seed and epoch, and what happens to a
    sample one of seed, epoch and its number. A last batch smaller than the others is left out. With several processes
    each gets its share of every batch, so that together they see what one would.

    Args:
        samples: What to draw from.
        batch_size: Samples a batch, of all processes together; all of them at once if there are fewer.
        prepare: See :class:`Batches`.
        collate: See :class:`Batches`.
        seed: Equal seeds give equal epochs.
        workers: Processes that read.
        share: Which of how many processes this is.

    Raises:
        FoveateError: If the batch cannot be divided among the processes.

    Example:
        >>> from foveate.data import fashion_mnist
        >>> data = fashion_mnist().test
        >>> loader = Epochs(data, 100, lambda sample, draw: sample[1], list, seed=0)
        >>> first, second = list(loader), list(loader)
        >>> len(first), first == second
        (5, False)
        >>> loader.begin_at((0, 4))
        >>> list(loader) == first[4:]
        True
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        prepare: Prepare,
        collate: Collate,
        *,
        seed: int,
        workers: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.samples, self.prepare, self.collate = samples, prepare, collate
        self.seed, self.workers, (self.rank, self.world) = seed, workers, share
        self.batch_size = min(batch_size, len(samples))
        if self.batch_size % self.world:
            raise FoveateError(
                f"a batch of {self.batch_size} samples cannot be shared evenly by {self.world} processes: the nearest "
                f"that can are {self.batch_size // self.world * self.world or self.world} and "
                f"{(self.batch_size // self.world + 1) * self.world}"
            )
        self.epoch, self.batch = 0, 0

    def __len__(self) -> int:
        return len(self.samples) // self.batch_size

    def __iter__(self) -> Iterator[Any]:
        if self.batch >= len(self):
            self.epoch, self.batch = self.epoch + 1, 0
        order = torch.randperm(len(self.samples), generator=generator("order", self.seed, self.epoch)).tolist()
        own, start = self.batch_size // self.world, self.batch
        first = [number * self.batch_size + self.rank * own for number in range(start, len(self))]
        batches = [order[begin : begin + own] for begin in first]
        key = (self.seed, self.epoch)
        reading = Batches(self.samples, batches, self.prepare, self.collate, key=key, workers=self.workers)
        for batch in reading:
            self.batch += 1  # before it is used: a checkpoint that is written after its step begins behind it
            yield batch

    @property
    def position(self) -> tuple[int, int]:
        """The epoch, and how many of its batches have been handed out."""
        return self.epoch, self.batch

    def begin_at(self, position: tuple[int, int]) -> None:
        """Go on behind these."""
        self.epoch, self.batch = position


def in_order(
    samples: Samples,
    batch_size: int,
    prepare: Prepare,
    collate: Collate,
    *,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Batches:
    """All samples as they are, in order; of several processes each gets every so many.

    All processes get equally many batches, because they may have to wait for each other in each. Where one has fewer
    samples, a batch of one sample fills up, which is not to be counted: see ``own`` of :class:`Batches`.

    Example:
        >>> from foveate.data import fashion_mnist
        >>> [len(batch) for batch in in_order(fashion_mnist().test, 200, lambda sample, draw: sample[1], list)]
        [200, 200, 100]
    """
    own = range(share[0], len(samples), share[1])
    batches: list[Sequence[int]] = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    most = -(-len(range(0, len(samples), share[1])) // batch_size)
    filled = [*batches, *([0] for _ in range(most - len(batches)))]
    return Batches(samples, filled, prepare, collate, workers=workers, own=len(batches))
