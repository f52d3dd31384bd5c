"""The network inside what PyTorch puts around one: a compiled graph, data-parallel training, an average of weights."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

from foveate.errors import OptionError

_AROUND = (nn.parallel.DistributedDataParallel, nn.DataParallel, AveragedModel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself: what ``torch.compile``, DDP or an averaged copy was made of.

    FSDP2's ``fully_shard`` changes a network in place, so there is nothing to look into.

    Raises:
        OptionError: If it is no network.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(net)) is net
        True
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"a network is a torch.nn.Module, not {type(model).__name__}")
    compiled = getattr(model, "_orig_mod", None)  # the class is not imported: that takes seconds
    if isinstance(compiled, nn.Module):
        return unwrapped(compiled)
    return unwrapped(model.module) if isinstance(model, _AROUND) else model
