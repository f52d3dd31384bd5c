"""The comparison: design, runs, cost, statistics, table and report, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError
from foveate.registry import Spec
from foveate.study.asked import Asked
from foveate.study.choices import weights_of
from foveate.study.course import Course, PartFinished
from foveate.study.design import DEFAULT_ATTENTION
from foveate.study.folder import Folder
from foveate.study.means import Means, check_means
from foveate.study.needs import check_packages
from foveate.study.plan import prepare
from foveate.study.progress import Reporter, Silent
from foveate.study.reading import read_json
from foveate.study.rows import Comparison, Row
from foveate.train.kinds import Data


def compare(
    data: str | Path | Data | None = None,
    host: str | None = None,
    weights: str | Path | None = "auto",
    attention: Sequence[str | Spec] = DEFAULT_ATTENTION,
    seeds: int = 3,
    *,
    work: str = "classification",
    asked: Asked | None = None,
    means: Means | None = None,
    out: str | Path = "foveate-compare",
    progress: Reporter | None = None,
) -> Comparison:
    """Compare attention mechanisms with the network as it is, honestly.

    Every arm is trained with the same budget and the same seeds. Each run is a file in ``out``, named by its
    configuration: kill it at any moment and call it again, and no finished run is lost or repeated.

    Args:
        data: Where the samples are, or samples already read; ``None`` for the embedded ones.
        host: The network; the usual one for the work, if ``None``.
        weights: ``"auto"`` starts networks of ours at random and all others from published weights; ``None`` starts
            at random; anything else as in :func:`foveate.hosts.build`.
        attention: The mechanisms, each perhaps with options.
        seeds: Runs of each arm; with ``asked.sequential`` at most.
        work: ``"classification"``, ``"segmentation"``, ``"detection"`` or ``"medical"``.
        asked: What else was asked for: controls, learning rates, fractions, corruptions, ….
        means: With what it is carried out.
        out: The folder for the results.
        progress: Who wants to know how far it is.

    Returns:
        The verdicts and the rows of the table, with the path of the report.

    Raises:
        OptionError: If something that was asked for does not exist or cannot work.
        DataError: If the samples cannot be used.
        FoveateError: If another process works on the folder, it cannot be written to, or runs of the baseline could
            not be finished.
        MissingExtraError: If a package of the extra ``compare`` is not installed.
        KeyboardInterrupt: If a person interrupts it, with a sentence that says how to go on.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> little = Asked(settings={"epochs": 1}, train_samples=64)
        >>> with TemporaryDirectory() as folder:
        ...     comparison = compare(attention=("se",), seeds=1, asked=little, out=folder)
        >>> [row.arm for row in comparison.rows], comparison.rows[1].verdict["word"]
        (['baseline', 'squeeze_excite'], 'underpowered')
    """
    check_packages()
    reporter, means, asked = progress or Silent(), means or Means(), asked or Asked()
    check_means(means, asked, data)
    prepared = prepare(data, host, weights, tuple(attention), seeds, work=work, asked=asked)
    request = {
        "data": _absolute(data) if isinstance(data, str | Path) else None,
        "given": data is not None and not isinstance(data, str | Path),
        "host": host,
        "weights": _absolute(weights) if isinstance(weights_of(host or "", weights), Path) else weights,
        "attention": [str(one) for one in attention],
        "seeds": seeds,
        "work": work,
        "asked": {**asked.as_dict(), "shifted": _absolute(asked.shifted), "published": _absolute(asked.published)},
        "means": asdict(means),
    }
    folder = Folder(Path(out))
    with folder.alone():
        return Course(prepared, request, folder, reporter, means).follow()


def resume(out: str | Path, *, means: Means | None = None, progress: Reporter | None = None) -> Comparison:
    """Go on with the study of a folder, as it was asked for, or make its table and report again.

    Args:
        out: The folder.
        means: With what it is carried out; as before, if ``None``.
        progress: Who wants to know how far it is.

    Raises:
        FoveateError: If there is no study in the folder, or its samples were given as they were.
    """
    path = Path(out)
    study = read_json(path / "study.json")
    if study is None or "request" not in study:
        raise FoveateError(f"'{path}' holds no study that can be resumed: run `foveate compare` into it first")
    request = study["request"]
    if request["given"]:
        raise FoveateError(f"the samples of '{path}' were given from Python: call `compare` again with the same ones")
    if means is None:
        before: dict[str, Any] = {**request["means"], "part": None}
        means = Means(**before)
    return compare(
        request["data"],
        request["host"],
        request["weights"],
        tuple(request["attention"]),
        request["seeds"],
        work=request["work"],
        asked=Asked.of(request["asked"]),
        means=means,
        out=path,
        progress=progress,
    )


def _absolute(path: str | Path | None) -> str | None:
    """Where it is, wherever the study is resumed from."""
    return None if path is None else str(Path(path).absolute())


__all__ = ["Comparison", "Means", "PartFinished", "Row", "compare", "resume"]
