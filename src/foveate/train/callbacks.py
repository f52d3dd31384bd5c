"""What happens around steps and epochs: checkpoints, patience, weights that are averaged, a host that waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.errors import MissingExtraError
from foveate.surgery import unfreeze_host
from foveate.train.lightning import pl
from foveate.train.optimizing import freeze_known
from foveate.train.task import Task

try:
    from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
except ImportError as error:
    raise MissingExtraError(error.name or "pytorch-lightning", "train") from error

CHECKPOINTS, LAST, BEST = "checkpoints", "last", "best"


def callbacks(task: Task, folder: Path, every: int | None, progress: bool) -> list[Any]:
    """What a recipe asks for, and checkpoints: of the best weights, and of the last every so many steps."""
    found: list[Any] = []
    recipe, monitor = task.recipe, f"validation/{task.watched}"
    if progress:
        found.append(RichProgressBar())
    if recipe.frozen_epochs:
        found.append(FrozenHost(recipe.frozen_epochs))
    if recipe.average:
        found.append(EMAWeightAveraging(decay=recipe.average))
    if recipe.patience:
        found.append(Patience(monitor, mode=task.better, patience=recipe.patience))
    shared: dict[str, Any] = {"dirpath": folder / CHECKPOINTS, "enable_version_counter": False}
    found.append(Checkpoint(**shared, filename=BEST, monitor=monitor, mode=task.better))
    if every is not None:
        found += [
            WithinEpoch(**shared, filename=LAST, every_n_train_steps=every),
            Checkpoint(**shared, filename=LAST, every_n_epochs=1, save_on_train_epoch_end=True),
        ]
    return found


class Checkpoint(ModelCheckpoint):
    """Checkpoints in a folder that can be moved: which one is best is known there too."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, with files where they are now."""
        moved = {**state_dict, "dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = self._here(state_dict[name])
        moved["best_k_models"] = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(moved)

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath or "") / Path(path).name) if path else path


class WithinEpoch(Checkpoint):
    """Checkpoints between steps, none after an epoch's last: that one has its own, and belongs behind validation."""

    def on_train_batch_end(self, trainer: Any, *given: Any, **named: Any) -> None:
        """Write one if it is time."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *given, **named)


class Patience(EarlyStopping):
    """Early stopping that has stopped stays so when the run is begun again."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """No step more, if there was nothing to wait for."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class FrozenHost(pl.Callback):
    """Keep the host's weights as they are for the first epochs, while what is new learns."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self._frozen = epochs, False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Also where a run goes on."""
        self._apply(trainer.current_epoch < self.epochs, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Freeze or free it."""
        self._apply(trainer.current_epoch < self.epochs, pl_module)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Leave no network frozen that was not."""
        self._apply(False, pl_module)

    def _apply(self, freeze: bool, task: Task) -> None:
        if freeze and not self._frozen:
            freeze_known(task.network, task.new)
        elif self._frozen and not freeze:
            unfreeze_host(task.network)
        self._frozen = freeze
