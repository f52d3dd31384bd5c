"""Networks that cost, export or fail in known ways, where another process can import them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Grows(nn.Module):
    """Returns one tensor of a known number of values, made of its one weight."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values, self.weight = values, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.detach().repeat(self.values)


class Decides(nn.Module):
    """Does one thing or another by what it sees, which no graph holds."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if float(x.sum()) > 0 else x - 1


class Pretends(nn.Module):
    """Returns something else, or something more, once it is exported."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.linear = how, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        y = self.linear(x)
        if not torch.compiler.is_exporting():
            return y
        return {"values": y * 1.001, "rounding": y * (1 + 1e-9), "shapes": (y, y)}[self.how]


class Dies(nn.Module):
    """Takes the process with it, unless that is where it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.home, self.weight = os.getpid(), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return x * self.weight


class Fails(nn.Module):
    """Raises when it runs."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.error, self.weight = error, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        raise self.error("it does\nnot run")


class Burns(nn.Module):
    """Uses energy: adds microjoules to a counter of RAPL, which begins again behind its range."""

    def __init__(self, counter: Path, microjoules: int) -> None:
        super().__init__()
        self.counter, self.microjoules = counter, microjoules

    def forward(self, x: Tensor) -> Tensor:
        energy = self.counter / "energy_uj"
        most = int((self.counter / "max_energy_range_uj").read_text())
        energy.write_text(str((int(energy.read_text()) + self.microjoules) % most))
        return x


class Finds(nn.Module):
    """Takes a list of images as torchvision's detectors do, and in training boxes too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        maps = self.conv(torch.stack(images))
        if not self.training:
            return [{"boxes": one.amax((1, 2)).reshape(1, 4)} for one in maps]
        if targets is None:
            raise ValueError("targets should not be none when in training mode")
        return {"boxes": sum((one["boxes"] - maps.mean()).square().mean() for one in targets), "more": maps.mean()}


class Sees(nn.Module):
    """Writes down how its input and its weights lie in memory, and who ran when."""

    seen: list[tuple[str, tuple[int, ...], bool, bool]] = []  # noqa: RUF012 (shared by copies)

    def __init__(self, name: str, dimensions: int = 2) -> None:
        super().__init__()
        self.name = name
        self.conv: Any = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions](3, 4, 3)
        self.last = {2: torch.channels_last, 3: torch.channels_last_3d}[dimensions]

    def forward(self, x: Tensor) -> Tensor:
        lies = [one.is_contiguous(memory_format=self.last) for one in (x, self.conv.weight)]
        Sees.seen.append((self.name, tuple(x.shape), lies[0], lies[1]))
        return self.conv(x)
