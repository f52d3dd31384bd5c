"""A training by names: what `foveate train` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from foveate import __version__
from foveate.errors import DataError, FoveateError, OptionError, nearest
from foveate.files import write_atomically
from foveate.train.assembly import Assembly, assembled, save_model
from foveate.train.curves import picture
from foveate.train.fitting import Fitted, fit, write_json
from foveate.train.kinds import Data, kind_of
from foveate.train.recipe import Recipe
from foveate.train.report import report_on, write_report
from foveate.train.several import first_process

PLAN, CURVES, MODEL = "run.json", "curves.png", "model"


@dataclass(frozen=True)
class Plan:
    """Everything that a training depends on besides the machine.

    Attributes:
        assembly: The network.
        recipe: How it is trained.
        data: Where the samples are; ``None`` for the embedded ones.
        fingerprint: Of the samples and their splits.
        weights: What the host begins with.
        seed: Of everything random.
    """

    assembly: Assembly
    recipe: Recipe
    data: str | None
    fingerprint: str
    weights: str | None
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "kind": "foveate run of training",
            "foveate": __version__,
            "network": self.assembly.as_dict(),
            "recipe": self.recipe.as_dict(),
            "data": self.data,
            "fingerprint": self.fingerprint,
            "weights": self.weights,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        fitted: The curves, and which epoch was best.
        report: Everything that was found, ready for JSON; empty in all processes but the first.
        folder: Where it is.
    """

    fitted: Fitted
    report: Mapping[str, Any]
    folder: Path


def train(
    work: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    host: str | None = None,
    weights: str | Path | None = None,
    attention: str | None = None,
    at: str | None = None,
    start: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_data: Callable[[Data], None] | None = None,
    **how: Any,
) -> Trained:
    """Train a network for a kind of work, by names, and write everything about it to a folder.

    Args:
        work: ``"classification"``, ``"segmentation"``, ``"detection"`` or ``"medical"``.
        out: The folder of the run.
        data: Where the samples are; the embedded ones if ``None``.
        host: The network; the usual one for the work if ``None``.
        weights: As in :func:`foveate.hosts.build`.
        attention: What is attached, as ``"cbam:reduction=8"``.
        at: Where; where it usually acts, if ``None``.
        start: ``"identity"`` or ``"paper"``; by default the first where the host has weights.
        settings: Fields of :class:`~foveate.train.recipe.Recipe` and options of the work, by name.
        seed: Of everything random.
        on_data: Called with the data before training begins, for its report; of several processes in the first.
        **how: As :func:`~foveate.train.fitting.fit` takes it: device, loggers, ….

    Raises:
        OptionError: If a name or an option does not exist.
        DataError: If the data cannot be used.
        FoveateError: If the folder holds another run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = train("classification", folder, attention="se", settings={"epochs": 1}, loggers=())
        ...     sorted(path.name for path in done.folder.iterdir())
        ['checkpoints', 'curves.csv', 'curves.png', 'model', 'report.json', 'report.md', 'run.json']
    """
    out = Path(out)
    kind = kind_of(work)
    chosen = dict(settings or {})
    recipe, options = split_settings(work, chosen, host)
    reading = kind.options(**options)
    samples = kind.data(None if data is None else Path(data), reading, seed=seed)
    if on_data is not None and first_process():
        on_data(samples)
    assembly = assembled(work, samples, host, weights=weights, attention=attention, at=at, start=start, options=options)
    place = None if data is None else str(data)
    plan = Plan(assembly, recipe, place, samples.fingerprint, None if weights is None else str(weights), seed)
    _same_run(out / PLAN, plan)
    network, new = assembly.build(weights, seed=seed)
    task = kind.task(network, samples, recipe, assembly.chosen(), seed=seed, new=new)
    if first_process():
        write_json(out / PLAN, plan.as_dict())
    fitted = fit(task, out, **how)
    if not first_process():
        return Trained(fitted, {}, out)
    save_model(out / MODEL, task.network, assembly)
    report = report_on(task, samples, plan.as_dict(), fitted)
    write_report(out, report)
    write_atomically(out / CURVES, picture(fitted.history, task.watched, int(fitted.best["epoch"])))
    return Trained(fitted, report, out)


def resume(out: str | Path, *, on_data: Callable[[Data], None] | None = None, **how: Any) -> Trained:
    """Go on with a run where its last checkpoint is, by what its folder says.

    Raises:
        DataError: If there is no run in the folder, or its data changed.
    """
    out = Path(out)
    try:
        plan = json.loads((out / PLAN).read_text(encoding="utf-8"))
        network, recipe = plan["network"], plan["recipe"]
    except FileNotFoundError as error:
        raise DataError(f"there is no run to resume in '{out}': it has no {PLAN}") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"'{out / PLAN}' cannot be read ({error})") from error
    return train(
        network["work"],
        out,
        data=plan["data"],
        host=network["host"],
        weights=plan["weights"],
        attention=network["attention"],
        at=network["at"],
        start=network["start"],
        settings={**recipe, **network["options"]},
        seed=plan["seed"],
        on_data=on_data,
        resume=True,
        **how,
    )


def split_settings(work: str, settings: Mapping[str, Any], host: str | None = None) -> tuple[Recipe, dict[str, Any]]:
    """A recipe, and the options of the work, from settings by name; what is not set is as usual for the network.

    Raises:
        OptionError: If a name is neither, or a value cannot work.

    Example:
        >>> recipe, options = split_settings("classification", {"epochs": 3, "smoothing": 0.1})
        >>> recipe.epochs, options
        (3, {'smoothing': 0.1})
    """
    kind = kind_of(work)
    of_recipe = {one.name for one in fields(Recipe)}
    of_work = {one.name for one in fields(kind.options)}
    for name in settings:
        if name not in of_recipe | of_work:
            raise OptionError(f"{work} has no setting '{name}'; {nearest(name, sorted(of_recipe | of_work))}")
    usual = kind.usual_of(kind.host if host is None else host)
    recipe = Recipe(**{**usual, **{name: value for name, value in settings.items() if name in of_recipe}})
    return recipe, {name: value for name, value in settings.items() if name in of_work}


def read_settings(work: str, texts: Sequence[str]) -> dict[str, Any]:
    """Settings as a person writes them, ``name=value``, in the types of what they set.

    Raises:
        OptionError: If one is not that.

    Example:
        >>> read_settings("classification", ["mixup=0.2", "optimizer=adamw", "augment=false"])
        {'mixup': 0.2, 'optimizer': 'adamw', 'augment': False}
    """
    kind = kind_of(work)
    types = {one.name: str(one.type) for cls in (Recipe, kind.options) for one in fields(cls)}
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise OptionError(f"'{text}' is not a setting: write name=value")
        if name not in types:
            raise OptionError(f"{work} has no setting '{name}'; {nearest(name, sorted(types))}")
        found[name] = _value(name, value.strip(), types[name])
    return found


def _value(name: str, text: str, type_: str) -> Any:
    plain = text.lower()
    if "None" in type_ and plain in ("none", ""):
        return None
    try:
        if "bool" in type_:
            return {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}[plain]
        if "int" in type_ and "float" not in type_:
            return int(text)
        if "float" in type_:
            return float(text)
    except (ValueError, KeyError):
        raise OptionError(f"{name}={text} is not {'yes or no' if 'bool' in type_ else 'a number'}") from None
    return text


def _same_run(path: Path, plan: Plan) -> None:
    """Refuse to go on with another run than the folder's."""
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read ({error}): choose another folder") from error
    now = json.loads(json.dumps(plan.as_dict()))
    parts = [name for name in now if name not in ("foveate", "data", "fingerprint")]
    different = [told for name in parts for told in _differences(name, before.get(name), now[name])]
    if before.get("fingerprint") != now["fingerprint"]:
        different.append("the samples or their splits are others")
    if different:
        raise FoveateError(
            f"'{path.parent}' holds another run: there {', '.join(different)}; choose another folder for this one"
        )


def _differences(name: str, before: Any, now: Any) -> list[str]:
    """What was chosen otherwise, in words.

    Example:
        >>> _differences("network", {"host": "a", "options": {"crop": 65}}, {"host": "a", "options": {"crop": 97}})
        ['crop is 65 and not 97']
    """
    if isinstance(now, dict):
        old: dict[str, Any] = before if isinstance(before, dict) else {}
        parts: dict[str, Any] = now
        return [told for part, value in parts.items() for told in _differences(part, old.get(part), value)]
    return [] if before == now else [f"{name} is {before} and not {now}"]


__all__ = ["Plan", "Trained", "read_settings", "resume", "split_settings", "train"]
