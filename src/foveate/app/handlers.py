"""What happens when somebody uses a control: their session, one public function, a piece of the page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from foveate.app import asking, looking
from foveate.app.asking import Asked
from foveate.app.comparing import FINISHED, RUNNING, Comparisons, checked
from foveate.app.markup import escaped, figure, framed, note
from foveate.app.networks import Choice, Chosen, Networks
from foveate.app.pictures import Gallery
from foveate.app.sessions import Session, Sessions
from foveate.app.studies import Studies, read_report
from foveate.app.uploads import read_upload
from foveate.errors import FoveateError, OptionError
from foveate.study.progress import duration
from foveate.train.drawing import enlarged

P = ParamSpec("P")
R = TypeVar("R")
MINE = "your comparison"
NO_PICTURE = "there is no picture yet: pick one or send one"


class Refusal(Exception):  # noqa: N818 (it is no error of the program)
    """What cannot be done, as a person reads it."""


def in_words(handler: Callable[P, R]) -> Callable[P, R]:
    """Whatever goes wrong becomes a sentence; what is our fault is written to the log, and no more of it is shown."""

    @wraps(handler)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except FoveateError as error:
            raise Refusal(str(error)) from error
        except (Exception, MemoryError) as error:
            logging.getLogger(__name__).exception("%s failed", handler.__name__)
            raise Refusal(
                f"something went wrong here that should not have ({type(error).__name__}); the log of the server says "
                "more"
            ) from error

    return run


@dataclass(frozen=True)
class Looked:
    """Everything that is shown after a look."""

    answer: str
    places: str
    maps: str
    evidence: str
    one_map: str
    names: list[str]
    classes: list[str]
    affinities: list[str]
    asked: Asked | None


@dataclass(frozen=True)
class Handlers:
    """All of the page's doings; each may be called by many people at once.

    Attributes:
        sessions: Whose is what.
        networks: What may be asked.
        gallery: What may be picked.
        studies: What may be opened.
        comparisons: What runs.
        uploads: The folder that uploads come to.
    """

    sessions: Sessions
    networks: Networks
    gallery: Gallery
    studies: Studies
    comparisons: Comparisons
    uploads: Path

    @in_words
    def pick(self, who: str | None, name: str) -> str:
        """Take one of the pictures that are there."""
        return self._take(self.sessions.of(who), self.gallery.get(name), name)

    @in_words
    def send(self, who: str | None, path: str | None) -> str:
        """Take a picture that was sent."""
        session = self.sessions.of(who)
        session.upload = None  # of two pictures, a refused second one must not leave the first to be looked at
        if not path:
            raise FoveateError("nothing arrived: send it again")
        return self._take(session, read_upload(Path(path), self.uploads), "your picture")

    @in_words
    def look(self, who: str | None, choice: Choice) -> Looked:
        """Ask a network about the picture."""
        session = self.sessions.of(who)
        pixels = _picture(session)
        with self.networks.work:
            chosen = self.networks.get(choice)
            session.choice = choice
            seen = looking.see(chosen, pixels)
            classes = list(seen.said.content.get("probabilities", ()))
            related = list(asking.affinities(seen))
            names = looking.map_names(seen)
            return Looked(
                looking.answer(chosen, seen),
                looking.places(chosen),
                looking.maps(seen),
                looking.evidence(chosen, seen, None, "gradcam"),
                looking.one_map(seen, names[0]) if names else "",
                names,
                classes,
                related,
                asking.ask(seen, related[-1], 0.5, 0.5, asking.LOOKS) if related else None,
            )

    @in_words
    def evidence(self, who: str | None, target: str | None, method: str) -> str:
        """Show where the evidence for a class lies."""
        session = self.sessions.of(who)
        with self.networks.work:
            chosen, seen = self._again(session)
            return looking.evidence(chosen, seen, target, method)

    @in_words
    def one_map(self, who: str | None, name: str | None) -> str:
        """Show one map as it is."""
        session = self.sessions.of(who)
        with self.networks.work:
            _, seen = self._again(session)
            return looking.one_map(seen, name)

    @in_words
    def ask(self, who: str | None, name: str, across: float, down: float, which: str) -> Asked:
        """Ask an affinity about a position, by shares of the picture's width and height."""
        session = self.sessions.of(who)
        with self.networks.work:
            _, seen = self._again(session)
            return asking.ask(seen, name, across, down, which)

    @in_words
    def ask_cell(self, who: str | None, name: str, row: int, column: int, which: str) -> Asked:
        """Ask it about a position by its row and column, from 0; the nearest there is, if there are fewer."""
        session = self.sessions.of(who)
        with self.networks.work:
            _, seen = self._again(session)
            return asking.ask_cell(seen, name, row, column, which)

    @in_words
    def costs(self, who: str | None) -> str:
        """Measure the network with and without its attention."""
        session = self.sessions.of(who)
        with self.networks.work:
            return looking.costs(self.networks.get(_choice(session)))

    @in_words
    def trust(self, who: str | None) -> str:
        """Measure whether the answer hangs on what the map marks."""
        session = self.sessions.of(who)
        with self.networks.work:
            return looking.trust(*self._again(session))

    @in_words
    def beside(self, who: str | None, one: str | None, other: str | None) -> str:
        """Show two runs on the same picture."""
        session = self.sessions.of(who)
        if not one or not other:
            raise OptionError("choose two runs: they are in the folder that `--checkpoints` names")
        return f'<div class="fo-pair">{self._column(session, one)}{self._column(session, other)}</div>'

    @in_words
    def report(self, who: str | None, name: str | None) -> str:
        """Open a report."""
        if not name:
            raise OptionError("choose a report")
        if name == MINE:
            ours = self.sessions.of(who).comparison
            if ours is None or ours.progress.report is None:
                raise OptionError("you have no finished comparison: start one below")
            return framed(read_report(ours.progress.report), "The report of your comparison")
        return framed(self.studies.read(name), f"The report of {name}")

    @in_words
    def start(self, who: str | None, attention: list[str], seeds: float, epochs: float, samples: float) -> str:
        """Start a small comparison."""
        session = self.sessions.of(who)
        request = checked(attention, seeds, epochs, samples)
        session.comparison = self.comparisons.start(request, session.new_folder, session.comparison)
        return self._progress(session)

    @in_words
    def stop(self, who: str | None) -> str:
        """Stop it."""
        session = self.sessions.of(who)
        if session.comparison is None or not session.comparison.running:
            raise FoveateError("no comparison of yours is running")
        session.comparison.stop()
        return self._progress(session)

    @in_words
    def progress(self, who: str | None) -> tuple[str, bool, bool]:
        """How far it is, whether it goes on, and whether there is a report."""
        session = self.sessions.of(who)
        ours = session.comparison
        if ours is None:
            return "", False, False
        return self._progress(session), ours.progress.state == RUNNING, ours.progress.state == FINISHED

    def reports(self, who: str | None) -> list[str]:
        """The reports that this person may open."""
        ours = self.sessions.of(who).comparison
        mine = [MINE] if ours is not None and ours.progress.report is not None else []
        return [*mine, *self.studies.reports()]

    def leave(self, who: str | None) -> None:
        """Forget a person."""
        self.sessions.close(who)

    def _take(self, session: Session, upload: Any, name: str) -> str:
        session.upload = upload
        return figure(name, upload.said, enlarged(upload.pixels))

    def _again(self, session: Session) -> tuple[Chosen, looking.Seen]:
        """What the person looked at last, looked at again: less is kept that way, and a pass is quick."""
        chosen = self.networks.get(_choice(session))
        return chosen, looking.see(chosen, _picture(session))

    def _column(self, session: Session, run: str) -> str:
        with self.networks.work:
            chosen = self.networks.get(Choice(checkpoint=run))
            seen = looking.see(chosen, _picture(session))
            parts = (looking.answer(chosen, seen), looking.evidence(chosen, seen, None, "gradcam"), looking.maps(seen))
        return f"<section><h3>{escaped(run)}</h3>{''.join(parts)}</section>"

    def _progress(self, session: Session) -> str:
        ours = session.comparison
        if ours is None:
            return ""
        now = ours.progress
        share = now.done / now.runs if now.runs else 0.0
        left = f", about {duration(now.left)} left" if now.left and now.state == RUNNING else ""
        head = f"{now.state}: {now.done} of {now.runs or '?'} runs{left}"
        lines = [now.stage, *now.under_way.values()] if now.state == RUNNING else [now.sentence]
        bar = (
            f'<progress max="1" value="{share:.3f}" aria-label="{escaped(head)}" style="width:100%">{share:.0%}'
            "</progress>"
        )
        return note(head, *lines, f"The same in a shell: {ours.request.command}") + bar


def _picture(session: Session) -> Any:
    if session.upload is None:
        raise FoveateError(NO_PICTURE)
    return session.upload.pixels


def _choice(session: Session) -> Choice:
    if session.choice is None:
        raise FoveateError("no network was asked yet: press Look")
    return session.choice
