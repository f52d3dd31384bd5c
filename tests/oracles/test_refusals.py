"""What a mechanism cannot be built with, it refuses in a sentence that names the option."""

from __future__ import annotations

from typing import Any

import pytest

import foveate
from foveate.errors import OptionError
from tests.support.oracles import collected


@pytest.mark.parametrize(("spec", "extra", "sentence"), [case for _, case in collected("REFUSED")])
def test_a_value_that_cannot_work_is_refused(spec: str, extra: dict[str, Any], sentence: str) -> None:
    arguments: dict[str, Any] = {"size": (5, 5), **extra}
    with pytest.raises(OptionError, match=sentence):
        foveate.create(spec, arguments.pop("channels", 16), **arguments)


@pytest.mark.parametrize("channels", [0, -1, 16.0, "16"])
def test_channels_that_are_no_number_of_channels_are_refused(channels: Any) -> None:
    with pytest.raises(OptionError, match="channel"):
        foveate.create("se", channels)


def test_options_in_a_list_are_the_same_spec() -> None:
    assert hash(foveate.spec("cbam", pools=["avg", "max"])) == hash(foveate.spec("cbam", pools=("avg", "max")))
