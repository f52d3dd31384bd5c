"""Every mechanism has a certificate, it speaks of the sources as they stand, and what it says is so."""

from __future__ import annotations

import pytest

import foveate
from foveate.certificate import certificate_of
from foveate.errors import FoveateError
from foveate.testing import Subject, checks
from tests.support.oracles import said
from tests.test_authors import ALL as RUNS
from tools.certify import TARGET, is_current


def test_files_are_mechanisms() -> None:
    assert {path.stem for path in TARGET.glob("*.json")} == set(foveate.names())


@pytest.mark.parametrize("name", foveate.names())
def test_it_is_current_and_complete(name: str) -> None:
    assert is_current(name), f"run `uv run python -m tools.certify {name}`"
    certificate = certificate_of(name)
    assert certificate.oracle.share <= 1
    assert certificate.oracle.forms == len(said(name, "OPTIONS", ()))
    assert {*certificate.passed, *certificate.exempt} == set(checks(Subject.of(name)))
    assert certificate.exempt == dict(foveate.get(name).card.exemptions)
    assert (certificate.authors is not None) == any(run.values[0].name == name for run in RUNS)
    assert len(certificate.counts) == len(said(name, "RESNETS", ()))
    # how much arithmetic of the same kind in another order differs: float32 for what ran in Caffe, float64 for all else
    if certificate.authors is not None:
        assert certificate.authors.output < (1e-5 if certificate.authors.gradients is None else 1e-11)


@pytest.mark.parametrize("name", foveate.names())
def test_it_does_not_call_released_what_was_not(name: str) -> None:
    for line in certificate_of(name).lines():
        if line.startswith("equals released code"):
            assert not any(
                words in line for words in ("compared with", "no code was released", "released no code", "was not run")
            )


def test_a_mechanism_of_ones_own_has_none() -> None:
    with pytest.raises(FoveateError, match="no mechanism called"):
        certificate_of("mine")
