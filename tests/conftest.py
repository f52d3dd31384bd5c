"""Shapes in signatures are checked in every test; those that compile or export switch the check off."""

from jaxtyping import install_import_hook

with install_import_hook(("foveate.attention", "foveate.catalogue", "foveate.ops"), "beartype.beartype"):
    import foveate  # noqa: F401
