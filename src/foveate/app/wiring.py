"""How controls are wired to what they do: which line they wait in, and how a refusal is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from foveate.app.handlers import Refusal
from foveate.app.markup import note

Updates = dict[Any, Any]
# what computes waits in one line; what only reads and writes does not wait for it
TORCH: dict[str, Any] = {"concurrency_id": "torch", "concurrency_limit": 1}
LIGHT: dict[str, Any] = {"concurrency_id": "light", "concurrency_limit": 4}


def refusing(box: gr.HTML, *emptied: Any) -> Callable[[Callable[..., Updates]], Callable[..., Updates]]:
    """A refusal goes into a box of the page, where it stays; what it makes untrue is emptied.

    Args:
        box: Where the sentence goes; it is emptied when all is well.
        *emptied: Parts of the page that show nothing then.
    """

    def around(event: Callable[..., Updates]) -> Callable[..., Updates]:
        @wraps(event)
        def run(*args: Any) -> Updates:
            try:
                return {box: "", **event(*args)}
            except Refusal as refused:
                return {box: note(str(refused), kind="refusal"), **dict.fromkeys(emptied, "")}

        return run

    return around
