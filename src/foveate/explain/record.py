"""Recording attention: every map by name, while the network runs as it always does."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from foveate.explain.recording.choosing import Samples, chosen_attention
from foveate.explain.recording.emphasis import emphasis_hook, recalibrates
from foveate.explain.recording.hearing import hearing
from foveate.explain.recording.maps import AttentionMap
from foveate.explain.recording.recording import Recording
from foveate.explain.recording.statistics import MapStatistics, Statistics
from foveate.surgery.places import At
from foveate.surgery.unwrap import unwrapped

__all__ = ["AttentionMap", "MapStatistics", "Recording", "Statistics", "record", "record_statistics"]


@contextmanager
def record(
    model: nn.Module,
    places: At | Sequence[At] | None = None,
    samples: Iterable[int] | None = None,
    *,
    gradients: bool = False,
) -> Generator[Recording]:
    """Record the attention maps of a network for as long as the ``with`` lasts.

    Nothing else changes: not the mode, and to rounding not the gradients and not the outputs. A compiled network runs
    eagerly meanwhile, because compiled graphs hold no maps; mechanisms that else run as one operation, as SimAM may, go
    step by step, and round at other places. Wrappers for distributed and compiled networks are seen through. Attention
    that timm, torchvision, segmentation-models-pytorch, MONAI or ultralytics built in is recorded too.

    Everything that passes is kept, on the CPU: a gate's weights, and what an affinity's are computed from. For a whole
    data set choose samples, or see :func:`record_statistics`. Of a pass that the network does not return from, because
    an image is broken or memory ends, nothing is kept, so that the maps of all places are of the same images.

    Args:
        model: A network with attention, attached or its own.
        places: Which places, by their names or those of modules that they are in: paths, globs (``"layer4.*"``),
            regular expressions, functions of a place and its attention; all, if ``None``.
        samples: Which samples are kept, by number: of each map they are counted from 0 over everything that passes.
            Numbers that never pass are left out.
        gradients: Whether maps can be weighted by how a score depends on them; see :meth:`Recording.differentiate`.
            What the network returns then has a graph of gradients, even if the network is frozen. Of gradient
            checkpointing only the form that keeps the graph will do, ``use_reentrant=False``.

    Raises:
        FoveateError: If the network has no attention, or none whose maps can be seen.
        PlaceError: If there is no attention at a place.
        OptionError: If the number of a sample is none.

    Example:
        >>> import torch
        >>> from foveate import attach, hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "cbam", start="paper").eval()
        >>> with torch.no_grad(), record(model) as maps:
        ...     scores = model(torch.randn(2, 3, 32, 32))
        >>> [(m.place, m.step, tuple(m.values.shape)) for m in maps][:2]
        [('layer1.0.bn2', 'channel', (2, 16, 1, 1)), ('layer1.0.bn2', 'spatial', (2, 1, 32, 32))]
        >>> with record(model, "layer3", gradients=True) as maps:
        ...     scores = model(torch.randn(2, 3, 32, 32))
        >>> maps.differentiate(scores[:, 3])
        >>> [(m.step, tuple(m.weighted().values.shape)) for m in maps]
        [('channel', (2, 64, 1, 1)), ('spatial', (2, 1, 8, 8))]
    """
    network = unwrapped(model)
    found = chosen_attention(network, places)
    recording = Recording(Samples(samples), gradients=gradients)
    with ExitStack() as stack:
        runs = stack.enter_context(hearing(network, recording.hear, found))
        for one in filter(recalibrates, found):
            hook = emphasis_hook(partial(recording.hear_emphasis, one, runs))
            stack.callback(one.module.register_forward_hook(hook, with_kwargs=True).remove)
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # whatever was compiled, and however
        yield recording


@contextmanager
def record_statistics(
    model: nn.Module, places: At | Sequence[At] | None = None, samples: Iterable[int] | None = None
) -> Generator[Statistics]:
    """The same over a whole data set: of every element of a map its mean, variance and extremes, and no values.

    Memory is bounded by four numbers in float64 for each element, 32 bytes, however many samples pass, and twice that
    during a pass, which may fail; of an affinity elements are positions, not pairs of them.

    Args:
        model: As for :func:`record`.
        places: As there.
        samples: As there.

    Raises:
        FoveateError: If the network has no attention, or none whose maps can be seen; while it runs, if a map changes
            its size.
        PlaceError: If there is no attention at a place.
        OptionError: If the number of a sample is none.

    Example:
        >>> from foveate import attach, hosts
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "se", start="paper").eval()
        >>> with torch.no_grad(), record_statistics(model) as seen:
        ...     for _ in range(3):
        ...         scores = model(torch.randn(2, 3, 32, 32))
        >>> seen[0].place, seen[0].count, seen[0].mean.shape
        ('layer1.0.bn2', 6, torch.Size([16, 1, 1]))
    """
    network = unwrapped(model)
    found = chosen_attention(network, places)
    statistics = Statistics(Samples(samples))
    with hearing(network, statistics.hear, found), torch.compiler.set_stance("force_eager"):
        yield statistics
