"""What a comparison needs to be installed: said before anything is read or trained."""

from __future__ import annotations

from importlib.util import find_spec

from foveate.errors import MissingExtraError

_PACKAGES = {
    "pytorch_lightning": "pytorch-lightning",
    "torchmetrics": "torchmetrics",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
    "filelock": "filelock",
}


def check_packages() -> None:
    """Say what is missing before an hour of training, not after.

    Raises:
        MissingExtraError: With the extra that has it.
    """
    for module, package in _PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, "compare")
