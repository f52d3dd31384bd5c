"""Groups of channels: how many fit, and group normalisation that survives a group of one value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate.errors import OptionError, check_at_least


class GroupNorm(nn.GroupNorm):
    """PyTorch's group normalisation, except where a batch holds one value per group.

    One value has no variance, and PyTorch raises if all of a batch is like that: a single sample of one position with
    as many groups as channels. Here its deviation from its own mean, zero, is what comes out, and only the bias is
    left, as PyTorch gives it for two such samples.

    Example:
        >>> GroupNorm(3, 3)(torch.ones(1, 3, 1, 1)).flatten().tolist()
        [0.0, 0.0, 0.0]
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the parameter's name in PyTorch)
        """Normalise."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def fitting_groups(channels: int, most: int) -> int:
    """The largest number of groups, up to a limit, that divides the channels.

    Example:
        >>> [fitting_groups(c, 32) for c in (64, 48, 16, 7)]
        [32, 24, 16, 7]
    """
    return next(groups for groups in range(min(channels, most), 0, -1) if channels % groups == 0)


def check_groups(what: str, channels: int, groups: object, each: int = 1) -> None:
    """Refuse a number of groups that does not divide the channels.

    Args:
        what: How the option is called.
        channels: How many channels there are.
        groups: Into how many groups they go.
        each: What the channels of every group must be divisible by.

    Raises:
        OptionError: With the nearest numbers of channels, and of groups, that work.

    Example:
        >>> check_groups("groups", 64, 8)
    """
    check_at_least(what, groups, 1)
    if not isinstance(groups, int) or channels % (groups * each) == 0:
        return
    unit = groups * each
    below = channels // unit * unit
    nearest = " and ".join(str(count) for count in (below, below + unit) if count > 0)
    fitting = [count for count in range(1, channels // each + 1) if channels % (count * each) == 0]
    near = [*[count for count in fitting if count < groups][-1:], *[count for count in fitting if count > groups][:1]]
    instead = f"; for {channels} it may be {' or '.join(map(str, near))}" if near else ""
    halves = f" of a multiple of {each} each" if each > 1 else ""
    raise OptionError(
        f"{channels} channels cannot be split into {what}={groups} groups{halves}; "
        f"the nearest that can: {nearest} channels{instead}"
    )
