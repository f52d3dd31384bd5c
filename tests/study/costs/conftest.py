"""What these tests have in common."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def _not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection before every timing looks through all that pytest and PyTorch hold: a second each, for nothing."""
    still = {name: lambda: False for name in ("collect", "disable", "enable", "isenabled")}
    monkeypatch.setattr("foveate.measure.latency.gc", SimpleNamespace(**still))
