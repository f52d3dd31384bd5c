"""What the page keeps for each person, apart from everybody else's, and gives up when they leave."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from foveate.app.comparing import Comparison
from foveate.app.networks import Choice
from foveate.app.uploads import Upload
from foveate.errors import FoveateError

MOST = 64  # an image takes 1.2 MB at most: 79 MB together
IDLE = 3600.0  # seconds


@dataclass
class Session:
    """What is kept for one person.

    Attributes:
        folder: For their files.
        upload: The picture that they look at.
        choice: The network that they asked last.
        comparison: The comparison that they started last.
        used: When they were last heard of.
    """

    folder: Path
    upload: Upload | None = None
    choice: Choice | None = None
    comparison: Comparison | None = None
    used: float = field(default_factory=time.monotonic)

    def new_folder(self) -> Path:
        """An empty folder for results; those of before are removed."""
        for old in self.folder.iterdir():
            shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix="comparison-", dir=self.folder))

    def close(self) -> None:
        """Give everything up: the comparison ends, the files go."""
        if self.comparison is not None:
            self.comparison.stop("stopped: its page was closed")
        self.upload = self.choice = self.comparison = None
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """Everybody's, by what their browser calls itself.

    Those not heard of for an hour are closed; where there are too many, the one unheard of for longest is.

    Args:
        root: The folder for all their folders; one for temporary files, if ``None``.
        most: How many there are at most.
        idle: After how many seconds of silence one is closed.
    """

    def __init__(self, root: Path | None = None, most: int = MOST, idle: float = IDLE) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="foveate-app-")) if root is None else root
        self.most, self.idle = most, idle
        self._lock = Lock()
        self._all: OrderedDict[str, Session] = OrderedDict()

    def of(self, name: str | None) -> Session:
        """The session of a browser; a new one, if it has none.

        Raises:
            FoveateError: If the browser does not say which it is.
        """
        if not name or len(name) > 64:
            raise FoveateError("this page does not say whose it is: load it again")
        with self._lock:
            if name not in self._all:
                self._all[name] = Session(Path(tempfile.mkdtemp(prefix="session-", dir=self.root)))
            session = self._all[name]
            session.used = time.monotonic()
            self._all.move_to_end(name)
            gone = self._take_out()
        for one in gone:
            one.close()
        return session

    def close(self, name: str | None) -> None:
        """Close one, if it is there."""
        with self._lock:
            session = self._all.pop(name or "", None)
        if session is not None:
            session.close()

    def sweep(self) -> None:
        """Close those that were not heard of for long."""
        with self._lock:
            gone = self._take_out()
        for one in gone:
            one.close()

    def close_all(self) -> None:
        """Close everything and remove the folder."""
        with self._lock:
            everybody, self._all = list(self._all.values()), OrderedDict()
        for one in everybody:
            one.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def _take_out(self) -> list[Session]:
        late = time.monotonic() - self.idle
        names = [name for name, one in self._all.items() if one.used < late]
        kept = len(self._all) - len(names)
        names += [name for name in self._all if name not in names][: max(0, kept - self.most)]
        return [self._all.pop(name) for name in names]
