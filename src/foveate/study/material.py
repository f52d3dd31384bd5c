"""What the runs of a study are made of: samples and networks, from names alone, so that any process can make them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from foveate.data.chance import generator
from foveate.data.fractions import fraction
from foveate.data.resplitting import resplit
from foveate.errors import DataError, FoveateWarning
from foveate.registry import parse
from foveate.study.arms.capacity import give_capacity, rooms_of
from foveate.study.arms.placebo import make_placebo
from foveate.study.design import RunConfig
from foveate.study.plain import canonical, tuples
from foveate.train.assembly import Assembly
from foveate.train.kinds import Data, kind_of

# samples that a person gave as they are, by their fingerprint: there is no name to read them by in another process
GIVEN: dict[str, Data] = {}


def data_of(config: RunConfig, path: str | None) -> Data:
    """The samples of a run, in the splits of its seed, with the training samples that it learns from.

    Args:
        config: Of the run.
        path: Where the samples are; the embedded ones if ``None``.

    Raises:
        DataError: If they are not the samples that the study was designed with.
    """
    found = GIVEN.get(config.fingerprint) or _read(config.work, path, canonical(dict(config.options)))
    if found.fingerprint != config.fingerprint:
        raise DataError(
            f"the samples {'embedded here' if path is None else f'in {path!r}'} are not those of the study, or are "
            f"split otherwise: their fingerprint is {found.fingerprint[:12]}… and not {config.fingerprint[:12]}…"
        )
    if config.resplit:
        found = _resplit(config.fingerprint, found, config.seed)
    train: Any = found.train
    if config.counts[0] < len(train):
        train = train.take([index * len(train) // config.counts[0] for index in range(config.counts[0])])
    if config.share < 1:
        train = fraction(train, config.share, config.seed)
    return found if train is found.train else replace(cast("Any", found), train=train)


def network_of(
    config: RunConfig, data: Data, weights: str | Path | None, said: list[str] | None = None
) -> tuple[nn.Module, tuple[str, ...], Assembly]:
    """The network of a run: the same host for the same seed, whatever is attached to it.

    Host and attention are initialised from two random streams, each of its own for every seed; the global stream is
    left as it was.

    Args:
        config: Of the run.
        data: What it tells apart.
        weights: What to build the host with.
        said: A list for what foveate warns of, in sentences: every arm is built many times, and says it once.

    Returns:
        The network, which of its parameters are not among the weights, and how it is described.
    """
    said = [] if said is None else said
    kind = kind_of(config.work)
    attended = Assembly(
        work=config.work,
        host=config.host,
        classes=tuple(data.classes),
        channels=kind.channels(data, weights),
        attention=config.attention,
        at=_place(config),
        start=config.start or "identity",
        options=config.options,
    )
    plain = replace(attended, attention=None, at=None)
    example = kind.example(attended.channels, attended.chosen())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network, new = (attended if config.role in ("attention", "placebo") else plain).build(weights, seed=config.seed)
        if config.role == "capacity":
            rooms = rooms_of(attended.build(weights, seed=config.seed)[0])
            with _stream("capacity", config.seed):
                give_capacity(network, rooms, example)
        elif config.role == "placebo":
            with _stream("placebo", config.seed):
                make_placebo(network, *(example if isinstance(example, tuple) else (example,)))
    for one in caught:
        if issubclass(one.category, FoveateWarning):
            said.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return network, new, attended


def _place(config: RunConfig) -> str | None:
    if config.at is not None or config.attention is None:
        return config.at
    return kind_of(config.work).usual_place(config.host, parse(config.attention))


@lru_cache(maxsize=2)
def _read(work: str, path: str | None, options: bytes) -> Data:
    kind = kind_of(work)
    return kind.data(None if path is None else Path(path), kind.options(**tuples(json.loads(options))), seed=0)


_SPLITS: dict[tuple[str, int], Data] = {}


def _resplit(fingerprint: str, data: Data, seed: int) -> Data:
    key = (fingerprint, seed)
    if key not in _SPLITS:
        _SPLITS.clear()  # runs go seed by seed
        _SPLITS[key] = resplit(cast("Any", data), seed)
    return _SPLITS[key]


@contextmanager
def _stream(what: str, seed: int) -> Generator[None]:
    """A random stream of its own, for as long as the ``with`` lasts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(what, seed).initial_seed())
        yield
