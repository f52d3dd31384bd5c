"""Words between a process and the one that started it: a line of JSON, and bytes behind it where there is a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import IO

from foveate.study.execution.job import Word


def send(stream: IO[bytes], word: Word) -> None:
    """Write a word.

    Example:
        >>> from io import BytesIO
        >>> stream = BytesIO()
        >>> send(stream, Word("done", "0" * 16, {"accuracy": 0.5}, b"maps"))
        >>> _ = stream.seek(0)
        >>> receive(stream)
        Word(kind='done', key='0000000000000000', value={'accuracy': 0.5}, maps=b'maps')
        >>> receive(stream) is None
        True
    """
    header = {**asdict(word), "maps": None if word.maps is None else len(word.maps)}
    stream.write(json.dumps(header).encode() + b"\n" + (word.maps or b""))
    stream.flush()


def receive(stream: IO[bytes]) -> Word | None:
    """Read a word; ``None`` if there is none any more, or if its sender was killed in the middle of it."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    length: int | None = header.pop("maps")
    if length is None:
        return Word(**header)
    maps = stream.read(length)
    return Word(**header, maps=maps) if len(maps) == length else None
