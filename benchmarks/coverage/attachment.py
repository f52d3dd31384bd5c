"""A network with one mechanism attached, as the checks hand it on to one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .hosts import Host


class NotRun(Exception):  # noqa: N818 - it is no error
    """A check that says nothing here, and why."""


@dataclass
class Attachment:
    """A network with one mechanism attached.

    Attributes:
        host: The network as it was.
        mechanism: What was attached.
        trained: A copy whose attention learned for two steps and acts; made by :func:`gradients`.
        acted: What the copy returns.
        notes: What else the result file should say.
    """

    host: Host
    mechanism: str
    trained: nn.Module | None = None
    acted: Any = None
    notes: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def model(self) -> nn.Module:
        """The attended network."""
        return self.host.model

    def acting(self) -> nn.Module:
        """The copy whose attention acts."""
        if self.trained is None:
            raise NotRun("there is no trained copy to look at")
        return self.trained
