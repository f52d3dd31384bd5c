"""What a mechanism cannot be built with, it refuses in a sentence that names the option."""

from __future__ import annotations

from typing import Any

import pytest

import foveate
from foveate.errors import OptionError


@pytest.mark.parametrize(
    ("spec", "extra", "sentence"),
    [
        ("se:reduction=0", {}, "reduction must be a whole number of at least 1"),
        ("se:bias=1", {}, "bias must be true or false"),
        ("eca:kernel_size=4", {}, "3 and 5"),
        ("ge:extent=16", {}, "extent must be one of 2, 4, 8, 'global'"),
        ("ge:extent=2.0", {}, "extent must be one of"),
        ("ge:variant=plus", {}, "variant must be one of"),
        ("cbam:kernel_size=6", {}, "5 and 7"),
        ("cbam:pools=avg+median", {}, "pools must be one of"),
        ("cbam:pools=avg+avg", {}, "each pool once"),
        ("cbam:pools=3", {}, "pools"),
        ("cbam", {"pools": None}, "pools"),
        ("psanet:mask=4+3", {}, "mask height must be odd"),
        ("psanet:mask=59", {}, "mask"),
        ("psanet:mask=3+3+3", {}, "mask"),
        ("psanet:normalization=0", {}, "normalization must be positive"),
        ("psanet:normalization=true", {}, "normalization must be positive"),
        ("psanet:normalization=mean", {}, "normalization must be positive"),
        ("psanet:compact=true,mask=3+3", {}, "leave `mask` out"),
        ("psanet", {"size": None}, "give the map's size"),
        ("psanet", {"size": (0, 5)}, "size"),
        ("ge:extent=global", {"size": (5,)}, "size"),
    ],
)
def test_a_value_that_cannot_work_is_refused(spec: str, extra: dict[str, Any], sentence: str) -> None:
    arguments: dict[str, Any] = {"size": (5, 5), **extra}
    with pytest.raises(OptionError, match=sentence):
        foveate.create(spec, 16, **arguments)


@pytest.mark.parametrize("channels", [0, -1, 16.0, "16"])
def test_channels_that_are_no_number_of_channels_are_refused(channels: Any) -> None:
    with pytest.raises(OptionError, match="channel"):
        foveate.create("se", channels)


def test_options_in_a_list_are_the_same_spec() -> None:
    assert hash(foveate.spec("cbam", pools=["avg", "max"])) == hash(foveate.spec("cbam", pools=("avg", "max")))
