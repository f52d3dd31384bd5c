"""What tells the energy that was used: the processor's counters (RAPL), or the GPU's (NVML)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from foveate.errors import FoveateError, MissingExtraError

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """Counts energy.

    Attributes:
        source: What counts, in words.
    """

    source: str

    def read(self) -> float:
        """Joules since some moment; only differences mean anything."""
        ...


@dataclass
class Domain:
    """One counter of RAPL, which begins again at 0 behind its range.

    Attributes:
        folder: Its folder below ``/sys/class/powercap``.
        whole: Microjoules of the rounds that it has completed.
        last: What it said last.
    """

    folder: Path
    whole: int = 0
    last: int = field(default=0)

    def __post_init__(self) -> None:
        self.range = int((self.folder / "max_energy_range_uj").read_text())
        self.last = self._now()

    def read(self) -> int:
        """Microjoules since some moment; it must be asked once a round of the counter, which takes minutes."""
        now = self._now()
        if now < self.last:
            self.whole += self.range
        self.last = now
        return self.whole + now

    def _now(self) -> int:
        return int((self.folder / "energy_uj").read_text())


class Rapl:
    """The counters of the processor's packages and of their memory.

    They count whatever runs there, idling included.

    Args:
        root: Where Linux shows them.

    Raises:
        FoveateError: If there are none, or they may not be read.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        if not root.is_dir():
            raise FoveateError(f"this machine tells no energy: there is no {root}")
        # "psys" holds the packages, and "core" and "uncore" are in them; the folders of intel-rapl-mmio show them again
        folders = [one for one in sorted(root.glob("intel-rapl:*")) if _name(one).startswith(("package", "dram"))]
        if not folders:
            raise FoveateError(f"this machine tells no energy: there is no counter of a package in {root}")
        try:
            self.domains = [Domain(folder) for folder in folders]
        except (OSError, ValueError) as error:
            raise FoveateError(
                f"the counters of energy in {root} cannot be read ({error}): only root may, unless he allows others"
            ) from error
        self.source = "RAPL: " + ", ".join(_name(folder) for folder in folders)

    def read(self) -> float:
        """Joules of all of them."""
        return sum(domain.read() for domain in self.domains) / 1e6


class Nvml:
    """The counter of a GPU of NVIDIA.

    Args:
        device: Which.

    Raises:
        MissingExtraError: If the package pynvml is not there.
        FoveateError: If the GPU does not count.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise MissingExtraError("nvidia-ml-py", "energy") from error
        self.library: Any = pynvml
        try:
            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            self.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self.read()
        except pynvml.NVMLError as error:
            raise FoveateError(f"this GPU tells no energy: {error}") from error
        self.source = "NVML: the GPU's own counter"

    def read(self) -> float:
        """Joules."""
        return self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3


def meter_of(device: torch.device, root: Path = POWERCAP) -> Meter:
    """What counts the energy of a device.

    Raises:
        FoveateError: If nothing does, with the reason.
    """
    if device.type == "cuda":
        return Nvml(device)
    if device.type != "cpu":
        raise FoveateError(f"nobody here knows how to ask a device of type '{device.type}' for its energy")
    return Rapl(root)


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""
