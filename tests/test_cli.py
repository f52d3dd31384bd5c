"""The command line as a person and as a script meet it: output, exit codes, and never a traceback."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

import foveate
from foveate.cli import main
from foveate.cli.words import count_of
from foveate.errors import OptionError
from foveate.registry import KINDS


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line in this process: starting one takes seconds, and only the last tests are about processes."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveate", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Done(stop.value.code, out, err)

    return call


def test_list_shows_the_catalogue_by_kind(run):
    rows = json.loads(run("list", "--json").stdout)
    kinds = [row["kind"] for row in rows]
    assert sorted(row["name"] for row in rows) == list(foveate.names())
    assert kinds == sorted(kinds, key=KINDS.index)
    assert {"eca": "channel", "cbam": "hybrid", "psanet": "pixel-pair"}.items() <= {
        row["name"]: row["kind"] for row in rows
    }.items()
    text = run("list").stdout
    assert re.search(r"^channel +attention +squeeze_excite +se +Squeeze-and-Excitation ", text, re.MULTILINE)
    assert [len(re.findall(rf"\b{name}\b", text)) for name in foveate.names()].count(0) == 0  # none is broken in two
    assert "effective_squeeze_excite" in text
    assert "instead of a 3×3 convolution's 589,824 parameters and 115,605,504 MACs" in text
    assert "Elementwise work is not counted as MACs" in text
    assert f"{len(rows)} of {len(rows)} mechanisms" in text


@pytest.mark.parametrize(
    ("options", "there", "gone"),
    [
        (["--kind", "channel"], "eca", "cbam"),
        (["--since", "2020"], "eca", "squeeze_excite"),
        (["--until", "2018"], "squeeze_excite", "eca"),
        (["--kind", "Spatial"], "spatial_groupwise", "eca"),
        (["--protocol", "replacement"], "odconv", "eca"),
        (["--max-macs", "10k"], "eca", "cbam"),
        (["--max-macs", "1e4"], "eca", "cbam"),
        (["--any-channels"], "eca", "shuffle"),
        (["--max-parameters", "5"], "eca", "squeeze_excite"),
        (["--max-parameters", "4"], None, "eca"),
        (["--max-macs", "8192", "--shape", "256x7x7"], "squeeze_excite", "cbam"),
        (["--exports", "onnx", "--kind", "channel"], "eca", "cbam"),
        (["--any-size", "--any-channels"], "psanet", "bottleneck_attention"),  # over-complete masks run at every size
        (["--protocol", "Fusion"], "attention_gate", "bottleneck_attention"),
    ],
)
def test_list_can_be_narrowed(run, options, there, gone):
    found = {row["name"] for row in json.loads(run("list", *options, "--json").stdout)}
    assert there is None or there in found
    assert gone not in found


def test_only_what_its_certificate_says_is_exported(run, monkeypatch):
    survey = sys.modules["foveate.measure.survey"]
    monkeypatch.setattr(survey, "_exports", lambda name: ("torch",) if name == "eca" else ("onnx", "torch"))
    for wanted, there in (("ONNX", False), ("torch", True)):
        found = {row["name"] for row in json.loads(run("list", "--exports", wanted, "--json").stdout)}
        assert ("eca" in found, "cbam" in found) == (there, True)


@pytest.mark.parametrize(
    ("written", "count"),
    [
        *(("0", 0), ("10000", 10_000), ("10k", 10_000), ("1.5M", 1_500_000), ("2g", 2 * 10**9), ("1e6", 10**6)),
        *(("12,345", 12_345), ("1_000", 1000), (" 7 ", 7), ("4.5", 4), ("1.001k", 1001), ("16.1k", 16_100)),
    ],
)
def test_counts_as_people_write_them(written, count):
    assert count_of("--max-macs", written) == count


@pytest.mark.parametrize("written", ["", "k", "few", "-1", "-1k", "nan", "inf", "1e400", "10kk", "1/2"])
def test_what_is_no_count(written):
    with pytest.raises(OptionError, match="--max-macs must be a number from 0, as 10000, 10k, 1.5M or 1e6, not '"):
        count_of("--max-macs", written)


def test_what_needs_certain_channels_says_which(run):
    needs = {row["name"]: row["needs"] for row in json.loads(run("list", "--json").stdout)}
    for name, step in (
        ("pyramid_split", 4),
        ("spatial_channel_synergistic", 4),
        ("shuffle", 2),
        ("split_attention", 2),
    ):
        assert needs[name] == f"a multiple of {step} channels"
        with pytest.raises(OptionError):
            foveate.create(name, 30 if step == 4 else 31)
    assert "channels" not in needs["eca"]


def test_a_narrow_terminal_leaves_columns_out_and_names_whole(run, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr("foveate.cli.listing.console", lambda **_: Console(width=80))
    text = run("list").stdout
    assert set(foveate.names()) <= set(text.split())
    assert "A wider terminal, or a pipe, shows title, paper, aliases" in " ".join(text.split())


def test_nothing_left_is_said(run):
    assert run("list", "--since", "2024", "--kind", "channel").stdout == (
        f"none of {len(foveate.names())} mechanisms is left by these options\n"
    )
    said = run(
        "choose", "--channels", "16", "--size", "7", "--budget", "1%", "--by", "parameters", "--mechanisms", "se"
    )
    block = 16 * 4 + 4 * 4 * 9 + 4 * 16 + 2 * (4 + 4 + 16)
    least = float(re.search(r"within the budget: none; the smallest that anything fits is ([\d.]+)%", said.stdout)[1])
    assert 0 <= least - 100 * (16 + 1 + 16 + 16) / block < 0.1
    many = run("choose", "--channels", "16", "--size", "2", "--budget", "0.01%", "--by", "parameters").stdout
    assert re.search(r"beyond it, the cheapest: 10 of \d\d\b", many)


def test_show_says_how_to_use_it(run):
    for name, line, needs in (
        ("SE", 'foveate.attach(model, "squeeze_excite")', ""),
        ("attention_gate", 'foveate.attach(model, "attention_gate", at="skip")', ""),
        ("pyramid_split", 'foveate.replace(model, "pyramid_split")', "needs a multiple of 4 channels"),
    ):
        text = run("show", name, "--shape", "64x4x4").stdout
        assert f"in Python: {line}\n" in text
        assert "in a shell: foveate plan " in text
        assert needs in text
    assert "instead of a 3×3 convolution's 36,864 parameters" in text


def test_show_takes_options_that_fit_the_map_that_was_asked_for(run):
    shown = json.loads(run("show", "shuffle:groups=6", "--shape", "96x4x4", "--json").stdout)
    assert (shown["kind"], shown["spec"]) == ("hybrid", "shuffle:groups=6")
    text = run("show", "cbam:reduction=8", "--shape", "64x4x4").stdout
    assert 'in Python: foveate.attach(model, "cbam:reduction=8")\n' in text
    assert "in a shell: foveate plan torchvision/resnet50 cbam:reduction=8\n" in text


def test_show_proves(run):
    proof = json.loads(run("show", "cbam", "--proof", "--json").stdout)
    assert proof["mechanism"] == "cbam"
    assert proof["authors"]["reference"].startswith("Jongchan/attention-module @ 459efad")
    assert 0 < proof["oracle"]["share"] <= 1
    text = run("show", "cbam", "--proof").stdout
    assert "ResNet-50 with cbam: 28,089,624 parameters" in text
    assert "cbam concatenates maximum then mean" in text


def test_choose_keeps_to_the_budget(run):
    wanted = ["--channels", "64", "--size", "7x9", "--mechanisms", "eca,se", "--json"]
    chosen = json.loads(run("choose", *wanted, "--by", "parameters", "--budget", "1%").stdout)
    assert (chosen["size"], chosen["budget"]) == ([7, 9], 0.01)
    assert [row["mechanism"] for row in chosen["fitting"]] == ["eca"]
    assert [row["mechanism"] for row in chosen["dearer"]] == ["squeeze_excite"]
    block = 64 * 16 + 16 * 16 * 9 + 16 * 64 + 2 * (16 + 16 + 64)
    assert chosen["dearer"][0]["shares"]["parameters"] == (64 * 4 * 2 + 4 + 64) / block
    text = run("choose", "--channels", "16", "--size", "7", "--budget", "0.5", "--mechanisms", "eca").stdout
    assert "Cost only" in text


def test_show_measures_the_mechanism_as_written(run):
    shown = json.loads(run("show", "cbam:reduction=8,parts=channel", "--shape", "64x14x14", "--json").stdout)
    assert shown["kind"] == "channel"
    assert shown["spec"] == "cbam:parts=channel,reduction=8"
    assert shown["cost"]["parameters"] == 64 * 8 + 8 + 8 * 64 + 64
    assert shown["cost"]["macs"] == 2 * (64 * 8 + 8 * 64)
    assert shown["options"]["reduction"]["default"] == 16
    text = run("show", "se", "--shape", "64x14x14").stdout
    assert "Squeeze-and-Excitation Networks. CVPR 2018" in text
    assert "580 parameters" in text


def test_plan_lists_every_place(run):
    planned = json.loads(run("plan", "torchvision/resnet18", "--attention", "eca", "--stages", "3,4", "--json").stdout)
    assert [(p["path"], p["channels"], p["parameters"]) for p in planned["places"]] == [
        ("layer3.0.bn2", 256, 5 + 1),  # five weights, and the blend
        ("layer3.1.bn2", 256, 6),
        ("layer4.0.bn2", 512, 6),
        ("layer4.1.bn2", 512, 6),
    ]
    text = run("plan", "foveate/resnet8", "--size", "64").stdout
    assert "foveate/resnet8 at 3×64×64" in text


def test_plan_takes_a_mechanism_of_every_protocol(run):
    convolutions = [f"layer{stage}.0.conv{number}" for stage in (1, 2, 3) for number in (1, 2)]
    for name, places in (("odconv", ["conv1", *convolutions]), ("aff", ["layer1.0.bn2"]), ("eca", None)):
        planned = json.loads(run("plan", "foveate/resnet8", name, "--json").stdout)
        assert places in (None, [place["path"] for place in planned["places"]])
        assert [text.split(" finds ")[0] for text in planned["warnings"]] == (
            ["'residual' leaves 2 out and"] if name == "aff" else []
        )
        again = json.loads(run("plan", "foveate/resnet8", "--attention", name, "--json").stdout)
        assert again == planned


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shw"], "Did you mean 'show'?"),
        (["show"], "Missing argument"),
        (["show", "cbma"], "there is no mechanism called 'cbma'; did you mean 'cbam'?"),
        (["show", "cbam:reducton=8"], "cbam has no option 'reducton'; did you mean 'reduction'?"),
        (["show", "se:name=3"], "squeeze_excite has no option 'name'"),
        (["show", "cbam:reduction=0"], "reduction must be a whole number of at least 1, not 0"),
        (["show", "eca:kernel_size=4"], "kernel_size must be odd, to have a centre; 4 is not, 3 and 5 are"),
        (["show", "se", "--shape", "7"], "'7' is not a shape; write channels×height×width"),
        (["plan", "foveate/resnet8", "attention_gate"], "no place of the kind 'skip'"),
        (["plan", "foveate/resnet8", "eca", "--attention", "se"], "one mechanism is planned at a time: 'eca' or 'se'"),
        (["choose", "--channels", "64", "--size", "x", "--budget", "1%"], "'x' is not a height and width"),
        (["choose", "--channels", "64", "--size", "7", "--budget", "much"], "'much' is not a share"),
        (["choose", "--channels", "64", "--size", "7", "--budget", "5"], "did you mean 5%?"),
        (["choose", "--channels", "64", "--size", "7", "--budget", "inf%"], "'inf%' is not a share"),
        (["choose", "--channels", "64", "--size", "7", "--budget", "nan"], "'nan' is not a share"),
        (["choose", "--channels", "64", "--size", "7", "--budget", "-1%"], "a budget is a share above zero"),
        (
            ["choose", "--channels", "100000", "--size", "1000", "--budget", "5%"],
            "'100000x1000' is not a feature map to measure with: sides from 1, 268,435,456 values at most",
        ),
        (["list", "--since", "2021", "--until", "2019"], "--since is after --until"),
        (["list", "--max-parameters", "-1"], "--max-parameters must be a number from 0, as 10000, 10k, 1.5M or 1e6"),
        (["list", "--max-macs", "few"], "--max-macs must be a number from 0"),
        (["list", "--protocol", "gate"], "--protocol must be one of"),
        (["show", "PSA"], "'PSA' may mean polarized, psanet, pyramid_split: write which"),
        (["show", "coordinate_attention"], "did you mean 'coordinate'?"),
        (["show", "squeeze_and_excitation"], "did you mean 'squeeze_excite' or "),
        (["show", "xyzzy"], f"`foveate list` and foveate.names() show all {len(foveate.names())}"),
        (["choose", "--channels", "64", "--size", "7", "--budget", "0"], "a budget is a share above zero"),
        (["choose", "--channels", "64", "--size", "7", "--budget", "1%", "--by", "price"], "by must be one of"),
        (["list", "--kind", "colour"], "--kind must be one of"),
        (["plan", "torchvision/resnt50"], "did you mean 'resnet50'"),
        (["plan", "torchvision/resnet18", "--at", "layer9"], "'layer9' matches no module of this network"),
        (["plan", "torchvision/resnet18", "--stages", "x"], "'x' is not a list of whole numbers"),
        (["compare", "--data", "no-such-folder"], "no-such-folder does not exist"),
        (["compare", "--attention", "se,cbma"], "there is no mechanism called 'cbma'"),
        (["compare", "--seeds", "0"], "seeds"),
        (["compare", "--start", "identical"], "start"),
        (["compare", "--host", "torchvision/nope"], "no classification model 'nope'"),
        (["compare", "--weights", "no-such-file.pth"], "no-such-file.pth"),
        (["plan", "foveate/resnet8", "--size", "-5"], "--size must be a whole number of at least 1, not -5"),
        (["show", "cbam", "--shape", "99999999x99999999x99999999"], "is not a feature map to measure with"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_one_line_and_exit_code_2(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_help_teaches(run):
    for command in ("list", "show", "choose", "plan", "compare"):
        text = run(command, "--help").stdout
        assert f"foveate {command}" in text
    assert "Exit codes" in run("--help").stdout


def test_a_closed_pipe_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -c 'from foveate.cli import main; main()' list --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_ctrl_c_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-c", "from foveate.cli import main; main()", "compare", "--attention", "eca"]
    process = subprocess.Popen(
        [*command, "--seeds", "2", "--epochs", "2", "--out", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore the signal, and so would everything that they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(600):
        if list(tmp_path.glob("out/runs/*.json")):
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert re.search(
        r"foveate: interrupted: \d of 4 runs are finished and kept in 'out'; the same command goes on", err
    )
    assert out == ""


def test_an_interrupt_that_nobody_takes_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foveate.cli.showing.get", interrupted)
    monkeypatch.setattr(sys, "argv", ["foveate", "show", "cbam"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "foveate: interrupted\n"
