"""Looking at what a network's attention does on pictures."""

from __future__ import annotations

import shlex
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.words import WHERE, Json, console, print_json, telling
from foveate.data.report import shown
from foveate.errors import OptionError, check_at_least

if TYPE_CHECKING:
    from foveate.explain.album import Album, Images, Subject


def look(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Pictures, and folders of pictures; by default the test samples of the run."),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The folder of a run of `foveate train`.")] = None,
    host: Annotated[str | None, typer.Option(help="Or a network that classifies: `timm/lcnet_100`.")] = None,
    weights: Annotated[
        str, typer.Option(help="Of the host: `none`, `pretrained`, a name of torchvision's, or a file.")
    ] = "none",
    attention: Annotated[str | None, typer.Option(help="What is attached to the host, as `cbam:reduction=8`.")] = None,
    at: Annotated[str | None, typer.Option(help=WHERE)] = None,
    start: Annotated[str | None, typer.Option(help="`paper` or `identity`; the second in a trained host.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the host's classes: a file of lines, `cat,dog`, or `imagenet`.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="What is on the pictures: a CSV or JSON by file, or a folder of masks; else folders' names."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Other samples than the run's, read as in training.")] = None,
    place: Annotated[str | None, typer.Option(help="The place to show large and measure; else what does most.")] = None,
    most: Annotated[int, typer.Option("--shown", help="How many pictures are shown.")] = 8,
    measured: Annotated[int, typer.Option(help="How many are measured, those shown among them.")] = 320,
    examples: Annotated[int, typer.Option(help="How many of them for what is slow; 0 for no such numbers.")] = 8,
    pictures: Annotated[str | None, typer.Option(help="Every picture as a file, too: `svg` or `png`.")] = None,
    out: Annotated[Path, typer.Option(help="Where the album goes.")] = Path("foveate-look"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over the album that is there.")] = False,
    as_json: Json = False,
) -> None:
    """An album of what a network's attention does on pictures, and how far that can be trusted: one HTML file.

    Attention that is a part of the network, such as the squeeze-and-excitation of timm's, is found by itself.

    Examples: `foveate look --checkpoint foveate-train` ·
    `foveate look photos --host timm/seresnet50 --weights pretrained --labels labels.csv`
    """
    from foveate.explain.album import look as run_look
    from foveate.explain.album.album import check_free

    if (checkpoint is None) == (host is None):
        raise OptionError("name one network: the folder of a run with --checkpoint, or a host with --host")
    refused = {"--weights": weights != "none", "--attention": attention, "--at": at, "--start": start}
    refused |= {"--classes": classes}
    if checkpoint is not None and (names := [name for name, given in refused.items() if given]):
        raise OptionError(f"a run says by itself what {', '.join(names)} would: these go with --host")
    if host is not None and data is not None:
        raise OptionError("--data goes with --checkpoint: a host has no kind of work that could read it")
    if host is not None and not images:
        raise OptionError("which pictures? name some, or a folder of them")
    if data is not None and images:
        raise OptionError("give pictures or --data, not both")
    if labels is not None and not images:
        raise OptionError("--labels goes with pictures: the samples of a run have labels of their own")
    for option, value, least in (("--shown", most, 1), ("--measured", measured, 1), ("--examples", examples, 0)):
        check_at_least(option, value, least)
    check_free(out, pictures, overwrite=overwrite)
    with telling(console(stderr=True), "reading") as say:

        def on_image(done: int, of: int) -> None:
            say(f"reading images: {done} of {of}")

        counts = {"most": most, "measured": measured, "on_image": on_image}
        if checkpoint is not None:
            subject, seen = _of_run(checkpoint, images, data, labels, counts)
        else:
            chosen = None if weights == "none" else weights
            subject, seen = _of_host(
                str(host), images or [], labels, counts, weights=chosen, attention=attention, at=at, start=start,
                classes=classes,
            )  # fmt: skip
        album = run_look(
            subject.network,
            seen,
            origin=subject.origin,
            classes=subject.classes,
            place=place,
            examples=examples,
            command=_command(locals()),
            progress=say,
        )
        say("writing")
        page = album.write(out, pictures=pictures, overwrite=overwrite)
    if as_json:
        print_json(album.as_dict())
    else:
        _tell(album, page)


def _of_run(
    checkpoint: Path, images: list[Path] | None, data: Path | None, labels: Path | None, counts: dict[str, Any]
) -> tuple[Subject, Images]:
    from foveate.explain.album import Labels, read
    from foveate.train.album import samples_of, sizes_of, trained

    if not images:
        return samples_of(checkpoint, data, **counts)
    subject, assembly = trained(checkpoint, sizes_of(images))
    # the folder that a picture is in names a class, and nothing of masks or boxes
    named = labels is not None or assembly.work == "classification"
    known = Labels.read(labels, subject.classes) if named else Labels(subject.classes)
    return subject, read(images, subject.prepare, known, **counts)


def _of_host(
    host: str,
    images: list[Path],
    labels: Path | None,
    counts: dict[str, Any],
    *,
    classes: str | None,
    **how: Any,
) -> tuple[Subject, Images]:
    from foveate.explain.album import Labels, hosted, read, read_classes

    subject = hosted(host, classes=read_classes(classes), **how)
    return subject, read(images, subject.prepare, Labels.read(labels, subject.classes), **counts)


def _tell(album: Album, page: Path) -> None:
    out = console()

    def line(text: str) -> None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    for one in album.about.mechanisms:
        line(one.sentence())
    for caution in album.about.cautions:
        line(f"caution: {caution}")
    line(album.rule)
    for note in album.notes:
        line(note)
    for left in album.left:
        line(f"left out: {left}")
    for sentence in (*album.trust.sentences(), *album.trust.missing):
        line(f"- {sentence}")
    line(f"\nalbum: {shown(str(page))}")


def _command(given: dict[str, Any]) -> str:
    """The command as it could be written again, without what is as usual."""
    usual = signature(look).parameters
    words = ["foveate", "look", *(str(path) for path in given["images"] or [])]
    for name in ("checkpoint", "host", "weights", "attention", "at", "start", "classes", "labels", "data", "place",
                 "most", "measured", "examples", "pictures", "out"):  # fmt: skip
        value = given[name]
        if value is not None and value != usual[name].default:
            words += [f"--{'shown' if name == 'most' else name}", str(value)]
    return shlex.join(map(shown, words))
