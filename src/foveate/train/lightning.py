"""What we ask of Lightning besides training: silence, an interruption that arrives, whole checkpoints."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from foveate.errors import FoveateError, MissingExtraError
from foveate.files import write_atomically

try:
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.plugins.io import TorchCheckpointIO
except ImportError as error:
    raise MissingExtraError(error.name or "pytorch-lightning", "train") from error

LOGGERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, and hold nothing but tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write one."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())


class Trackio(Logger):
    """Trackio, which Lightning has no logger for.

    Args:
        project: What runs are kept together under.
        run: What this one is called.
    """

    def __init__(self, project: str, run: str) -> None:
        super().__init__()
        import trackio  # pyright: ignore[reportMissingImports]

        self._trackio, self._project, self._run = trackio, project, run
        self._begun = False

    @property
    def name(self) -> str:
        """Of the project."""
        return self._project

    @property
    def version(self) -> str:
        """Of the run."""
        return self._run

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Send numbers."""
        self._begin()
        self._trackio.log(dict(metrics), step=step)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Send how it is trained."""
        self._begin(dict(params))

    def finalize(self, status: str) -> None:  # noqa: ARG002
        """Send what is left."""
        if self._begun:
            self._trackio.finish()

    def _begin(self, config: dict[str, Any] | None = None) -> None:
        if not self._begun:
            self._trackio.init(project=self._project, name=self._run, config=config)
            self._begun = True


def logger(name: str, folder: Path) -> Logger:
    """A logger by name, for a run in a folder.

    Raises:
        FoveateError: If its package is not installed, or there is none of that name.
    """
    from pytorch_lightning import loggers

    try:
        match name:
            case "tensorboard":
                return loggers.TensorBoardLogger(folder, name="tensorboard", version="")
            case "wandb":
                return loggers.WandbLogger(project="foveate", name=folder.name, save_dir=folder)
            case "mlflow":
                return loggers.MLFlowLogger("foveate", run_name=folder.name, tracking_uri=f"file:{folder / 'mlruns'}")
            case "trackio":
                return Trackio("foveate", folder.name)
            case _:
                raise FoveateError(f"there is no logger '{name}': {', '.join(LOGGERS)}")
    except ImportError as error:
        package = LOGGERS[name]
        raise FoveateError(
            f"the logger '{name}' needs the package {package}, which is not installed: pip install {package}"
        ) from error


@contextmanager
def quiet() -> Generator[None]:
    """Lightning's advice is for whoever writes the training; the person who waits for a table did not."""
    known = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [one.level for one in known]
    for one in known:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric|torchmetrics")
            yield
    finally:
        for one, level in zip(known, levels, strict=True):
            one.setLevel(level)


@contextmanager
def interruptible() -> Generator[None]:
    """Lightning answers Ctrl-C by leaving Python; pass the interruption on instead, so that the caller can tidy up."""
    try:
        yield
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


__all__ = ["LOGGERS", "Trackio", "WholeCheckpoints", "interruptible", "logger", "pl", "quiet"]
