"""Reports of studies that the page may open: those of one folder."""

from __future__ import annotations

from pathlib import Path

from foveate.errors import OptionError

BYTES = 32 * 2**20
DEPTH = 4
REPORT = "report.html"


class Studies:
    """The reports in a folder, by their paths in it.

    Args:
        folder: The folder; no reports, if ``None``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = None if folder is None else folder.resolve()

    def reports(self) -> dict[str, Path]:
        """The reports that may be opened, by the names of their studies; links out of the folder are none of them."""
        if self.folder is None:
            return {}
        found = {
            path
            for depth in range(DEPTH)
            for path in self.folder.glob("*/" * depth + REPORT)
            if path.resolve().is_relative_to(self.folder) and path.is_file()
        }
        names = {path: str(path.parent.relative_to(self.folder)) for path in found}
        return {name if name != "." else path.parent.name: path for path, name in sorted(names.items())}

    def read(self, name: str) -> str:
        """One report.

        Raises:
            OptionError: If it is not one of them, or too large for a page.
        """
        path = self.reports().get(name)
        if path is None:
            raise OptionError("this report is not one of those offered: choose one of the list")
        return read_report(path)


def read_report(path: Path) -> str:
    """A report as it is written.

    Raises:
        OptionError: If it is too large for a page, or gone.
    """
    try:
        if path.stat().st_size > BYTES:
            raise OptionError(f"this report has more than {BYTES // 2**20} MiB: open {path.name} in its folder")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError("this report is no longer here") from error
