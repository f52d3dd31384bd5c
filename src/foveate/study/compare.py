"""The comparison: design, runs, cost, statistics, table and report, joined."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foveate.data import ImageClassification
from foveate.errors import MissingExtraError
from foveate.measure import Conditions
from foveate.registry import Spec
from foveate.study.cost import ROUNDS, measure_cost
from foveate.study.design import DEFAULT_ATTENTION, Study
from foveate.study.folder import Folder
from foveate.study.plan import prepare, rules
from foveate.study.progress import Reporter, Silent
from foveate.study.reading import FORMAT
from foveate.study.rows import Comparison, notes_on, rows_of
from foveate.study.run import Material, run_all

QUICK_ROUNDS = 40
_PACKAGES = {
    "pytorch_lightning": "pytorch-lightning",
    "torchmetrics": "torchmetrics",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
    "filelock": "filelock",
}


def compare(
    data: str | Path | ImageClassification | None = None,
    host: str = "foveate/resnet8",
    weights: str | Path | None = "auto",
    attention: Sequence[str | Spec] = DEFAULT_ATTENTION,
    seeds: int = 3,
    *,
    at: str | None = None,
    start: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    image_size: int | None = None,
    train_images: int | None = None,
    quick: bool = False,
    device: str | None = None,
    out: str | Path = "foveate-compare",
    progress: Reporter | None = None,
) -> Comparison:
    """Compare attention mechanisms with the network as it is, on images, honestly.

    Every arm is trained with the same budget and the same seeds. Each run is a file in ``out``, named by its
    configuration: kill it at any moment and call it again, and no finished run is lost or repeated.

    Args:
        data: A folder of images, or images already read; ``None`` is the embedded sample.
        host: The network, as in :func:`foveate.hosts.build`.
        weights: ``"auto"`` starts networks of ours at random and all others from published weights; ``None`` starts
            at random; anything else as in :func:`foveate.hosts.build`.
        attention: The mechanisms, each perhaps with options.
        seeds: Runs of each arm.
        at: Where, as in :func:`foveate.attach` and :func:`foveate.replace`; where a mechanism of its protocol usually
            acts, if ``None``: residual joins, skips, convolutions.
        start: How attention starts: ``"paper"`` by default in a random network, ``"identity"`` in a trained one.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: The highest learning rate, the same for all.
        image_size: Height and width of a folder's images.
        train_images: Learn from so many images only.
        quick: Fewer images and epochs, for a first look.
        device: ``"cpu"`` or ``"cuda"``; by default a GPU if there is one.
        out: The folder for the results.
        progress: Who wants to know how far it is.

    Returns:
        The rows of the table, with the path of the report.

    Raises:
        OptionError: If something that was asked for does not exist or cannot work.
        DataError: If the images cannot be used.
        FoveateError: If another process works on the folder, or it cannot be written to.
        MissingExtraError: If a package of the extra ``compare`` is not installed.
        KeyboardInterrupt: If a person interrupts it, with a sentence that says how to go on.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     comparison = compare(attention=("se",), seeds=1, epochs=1, train_images=64, out=folder)
        >>> [row.arm for row in comparison.rows]
        ['baseline', 'squeeze_excite']
    """
    _check_packages()
    reporter = progress or Silent()
    study, material = prepare(
        data,
        host,
        weights,
        tuple(attention),
        seeds,
        at=at,
        start=start,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        image_size=image_size,
        train_images=train_images,
        quick=quick,
        device=device,
    )
    folder = Folder(Path(out))
    with folder.alone():
        try:
            folder.open_study(_described(study, material, quick))
            records, interrupted = run_all(study, material, folder, reporter)
            reporter.stage("measuring cost")
            cost = measure_cost(study, material, QUICK_ROUNDS if quick else ROUNDS)
            folder.write("cost.json", cost)
            comparison = Comparison(
                rows=rows_of(study, records, cost),
                notes=tuple(notes_on(study, material, records, quick)),
                interrupted=tuple(interrupted),
                conditions=Conditions.here(study.base.device).as_dict(),
                quick=quick,
                results=folder.path,
                report=folder.path / "report.html",
            )
            folder.write("comparison.json", comparison.as_dict())
            reporter.stage("writing the report")
            from foveate.study import report

            report.write(folder.path)
        except KeyboardInterrupt:
            done = sum(folder.finished(config.key, maps=False)[0] is not None for _, config in study.runs())
            total = len(study.arms) * len(study.seeds)
            raise KeyboardInterrupt(
                f"interrupted: {done} of {total} runs are finished and kept in '{folder.path}'; the same command "
                "goes on from there"
            ) from None
    return comparison


def _check_packages() -> None:
    """Say what is missing before an hour of training, not after."""
    for module, package in _PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, "compare")


def _described(study: Study, material: Material, quick: bool) -> dict[str, Any]:
    data = material.data
    return {
        "format": FORMAT,
        "kind": "foveate study",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "arms": [arm.as_dict() for arm in study.arms],
        "seeds": list(study.seeds),
        "shared": study.shared(),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "train": study.base.train_images,
            "validation": len(data.validation),
            "test": len(data.test),
            "shape": list(data.shape),
            "report": "\n".join(data.report.lines()),
        },
        "rules": rules(study),
        "runs": [{"arm": arm.name, "seed": config.seed, "key": config.key} for arm, config in study.runs()],
    }
