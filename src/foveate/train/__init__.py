"""Training: tasks for pytorch-lightning, and what a run leaves behind.

:func:`fit` trains a :class:`Task` and keeps everything about it in a folder; killed at any moment, it goes on exactly
where it was. The tasks are in files of their own: ``classification``, ``segmentation``, ``detection``, ``medical``.
"""

from foveate.train.fitting import Fitted, fit
from foveate.train.recipe import Recipe
from foveate.train.task import Task

__all__ = ["Fitted", "Recipe", "Task", "fit"]
