"""What a trained network says of pictures, and where it looks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from foveate.data.decode import UnusableImageError, require_pillow
from foveate.errors import DataError
from foveate.explain import overlay, record
from foveate.files import write_atomically
from foveate.surgery.attached import find_attention
from foveate.train.assembly import load_model
from foveate.train.drawing import enlarged, write_picture
from foveate.train.kinds.kind import PICTURES
from foveate.train.looking import look_of


def predict(
    checkpoint: str | Path,
    images: Iterable[str | Path],
    out: str | Path,
    *,
    attention: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What a trained network says of pictures: a picture each, masks where the work is one of them, and JSON.

    Args:
        checkpoint: The folder of a run.
        images: Files, and folders of files.
        out: Where pictures, masks and ``predictions.json`` go.
        attention: Whether pictures of what the attention does are written too; see
            :func:`~foveate.train.looking.look_of`.
        progress: Called after each image with the count of those done and of all.

    Returns:
        What ``predictions.json`` has.

    Raises:
        DataError: If there is no trained network, or not one of the pictures can be read.
    """
    require_pillow()
    network, assembly = load_model(checkpoint)
    kind, options, out = assembly.kind, assembly.chosen(), Path(out)
    files = files_of(images, kind.suffixes)
    looks = attention and any(find_attention(network))  # PSANet has attention of its own
    said: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for done, (name, path) in enumerate(files.items(), 1):
        try:
            pixels = kind.read(path, assembly.channels)
            with record(network) if looks else nullcontext() as maps:
                answer = kind.say(network, pixels, assembly.classes, options)
        except UnusableImageError as error:
            skipped[name] = str(error)
            continue
        stem = _stem(name)
        said[name] = {**answer.content, "picture": f"{stem}.png"}
        write_picture(out / f"{stem}.png", answer.picture)
        if answer.mask is not None:
            write_picture(out / f"{stem}.mask.png", answer.mask[None])
            said[name]["mask"] = f"{stem}.mask.png"
        for end, content in answer.files.items():
            write_atomically(out / f"{stem}.{end}", content, durable=False)
            said[name].setdefault("files", []).append(f"{stem}.{end}")
        if maps is not None and (look := answer.look or look_of(maps, kind.shown_place, answer.merge)) is not None:
            seen = enlarged(pixels if answer.seen is None else answer.seen)
            write_picture(out / f"{stem}.attention.png", overlay(seen, look.heat, diverging=look.diverging))
            said[name] |= {"attention": f"{stem}.attention.png", "attention_at": look.place}
        if progress is not None:
            progress(done, len(files))
    if not said:
        reasons = "; ".join(f"{name} {reason}" for name, reason in list(skipped.items())[:3])
        raise DataError(f"none of the {len(files)} pictures can be read: {reasons}")
    found = {"kind": "foveate predictions", "network": assembly.as_dict(), "images": said, "skipped": skipped}
    write_atomically(out / "predictions.json", (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    return found


def files_of(images: Iterable[str | Path], suffixes: tuple[str, ...] = PICTURES) -> dict[str, Path]:
    """The files, by the names they are known by; folders are looked through.

    Raises:
        DataError: If there are none.
    """
    found: dict[str, Path] = {}
    for given in images:
        path = Path(given)
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file() and one.name.lower().endswith(suffixes))
            found.update((str(one.relative_to(path)), one) for one in inside)
        elif path.is_file():
            found[path.name] = path
        else:
            raise DataError(f"there is no picture '{path}'")
    if not found:
        raise DataError("there are no pictures in what was given")
    return found


def _stem(name: str) -> str:
    """A name for files in one folder, whatever the picture's own path was."""
    return (
        "".join(
            c if c.isalnum() or c in "-_." else "_" for c in str(Path(name.removesuffix(".gz")).with_suffix(""))
        ).strip(".")
        or "_"
    )
