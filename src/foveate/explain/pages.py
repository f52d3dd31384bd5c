"""Pages that stand alone: one file, with the look that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.errors import MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Environment


def pages(package: str, extra: str) -> Environment:
    """The templates of a package beside the shared ones: ``page.css`` is what all pages look like.

    What is put into a template is escaped, and what it asks for must be there.

    Args:
        package: In whose folder ``templates`` its own are.
        extra: What to install where Jinja2 is missing.

    Raises:
        MissingExtraError: If Jinja2 is not installed.

    Example:
        >>> "album.html.j2" in pages("foveate.explain.album", "explain").list_templates()
        True
    """
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2", extra) from error
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("foveate.explain")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
