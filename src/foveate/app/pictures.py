"""Pictures to pick from: garments that come with the package, and those of a folder that the server was given."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from foveate.app.uploads import Upload, read_upload
from foveate.data import fashion_mnist
from foveate.errors import OptionError
from foveate.train.drawing import rgb
from foveate.train.kinds.kind import PICTURES

SHOWN = 500


class Gallery:
    """Pictures by name.

    Args:
        folder: A folder of pictures, its own folders left out; none, if ``None``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = None if folder is None else folder.resolve()

    def names(self) -> list[str]:
        """What may be picked: garments first, because a list shows a hundred and finds the others by their letters."""
        mine = [] if self.folder is None else [path for path in sorted(self.folder.iterdir()) if self._allowed(path)]
        return [*garments(), *(path.name for path in mine[:SHOWN])]

    def get(self, name: str) -> Upload:
        """A picture.

        Raises:
            OptionError: If it is not one of them.
            DataError: If it cannot be read.
        """
        if name in garments():
            return Upload(garments()[name], "grey, 28×28 pixels, from the embedded test images of Fashion-MNIST")
        if self.folder is None or name not in self.names():
            raise OptionError("this picture is not one of those offered: choose one of the list")
        return read_upload(self.folder / name, self.folder)

    def _allowed(self, path: Path) -> bool:
        return path.name.lower().endswith(PICTURES) and path.is_file() and path.resolve().is_relative_to(
            self.folder or path
        )  # fmt: skip


@cache
def garments() -> dict[str, UInt8[Tensor, "3 28 28"]]:
    """One test image of each class that comes with the package.

    Example:
        >>> list(garments())[:2]
        ['garment: T-shirt/top', 'garment: Trouser']
    """
    data = fashion_mnist()
    first: dict[int, Tensor] = {}
    for index in range(len(data.test)):
        image, label = data.test[index]
        first.setdefault(label, rgb(image))
    return {f"garment: {data.classes[label]}": first[label] for label in sorted(first)}
