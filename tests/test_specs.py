"""What a person writes of a mechanism: read, refused in sentences, and asked what it is with the options it has."""

import pytest

import foveate
from foveate.errors import OptionError
from foveate.registry import Spec, parse


@pytest.mark.parametrize("word", ["name", "self", "channels", "size"])
def test_an_option_called_as_something_of_ours_is_no_option_of_the_mechanism(word):
    with pytest.raises(OptionError, match=f"squeeze_excite has no option '{word}'"):
        parse(f"se:{word}=3")


@pytest.mark.parametrize("name", [["se"], {}, None, 7])
def test_what_is_no_name_is_refused_in_a_sentence(name):
    with pytest.raises(OptionError, match="a mechanism is called by a name, not by"):
        foveate.get(name)


def test_options_that_the_usual_number_of_channels_does_not_allow():
    """Nobody wrote 64: what is asked of a mechanism with six groups is asked of one that six groups divide."""
    with pytest.raises(OptionError, match="64 channels cannot be split"):
        foveate.create("shuffle", 64, groups=6)
    assert foveate.get("shuffle").kind(groups=6) == foveate.get("shuffle").kind() == "hybrid"
    with pytest.raises(OptionError, match="is defined on maps of height and width"):
        foveate.create("shuffle:groups=6", 96, size=(8,))
    with pytest.raises(OptionError, match="64 channels cannot be split into groups=-1|groups must be"):
        foveate.get("shuffle").kind(groups=-1)


def test_the_line_of_python_has_the_options_that_were_asked_for():
    for written, line in (
        ("cbam", 'foveate.attach(model, "cbam")'),
        ("cbam:reduction=8", 'foveate.attach(model, "cbam:reduction=8")'),
        (
            "gather_excite:extent=global,variant=theta",
            'foveate.attach(model, "gather_excite:extent=global,variant=theta", example=torch.zeros(1, 3, 224, 224))',
        ),
    ):
        spec = parse(written)
        assert foveate.get(spec.name).used_as(str(spec), **dict(spec.options)) == line
    assert foveate.get("cbam").usage == 'foveate.attach(model, "cbam")'


def test_an_option_given_twice_is_refused():
    with pytest.raises(OptionError, match=r"^'reduction' is given twice in 'se:reduction=4,reduction=8'"):
        parse("se:reduction=4,reduction=8")


def test_a_spec_reads_as_it_is_written():
    spec = Spec("cbam", (("pools", ("avg", "lse")), ("reduction", 8)))
    assert parse(str(spec)) == spec


@pytest.mark.parametrize("written", ["squeeze-excite", "Squeeze Excite", " SE ", "SQUEEZE_EXCITE", "Se"])
def test_capitals_hyphens_and_blanks_make_no_difference_in_a_name(written):
    assert foveate.get(written).card.name == "squeeze_excite"
