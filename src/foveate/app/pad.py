"""The picture that is pointed at: by pointer, by finger, by arrow keys; what the browser runs of it."""

from __future__ import annotations

from pathlib import Path

from foveate.app.asking import Asked
from foveate.app.markup import data_uri, escaped

SIDE = 480  # pixels on the screen, where there is room

SCRIPT = Path(__file__).with_name("pad.js").read_text(encoding="utf-8")


def pad(asked: Asked) -> str:
    """What one position was told, with the position marked."""
    rows, columns = asked.size
    left, top = (asked.column + 0.5) / columns, (asked.row + 0.5) / rows
    across, down = asked.picture.shape[2], asked.picture.shape[1]
    return (
        f'<figure class="fo-figure"><div class="fo-frame" tabindex="0" role="application" data-rows="{rows}" '
        f'data-columns="{columns}" data-row="{asked.row}" data-column="{asked.column}" '
        f'style="aspect-ratio:{across}/{down};max-width:{SIDE}px" '
        f'aria-label="{escaped(asked.words)} Point at the picture, drag over it, or use the arrow keys.">'
        f'<img src="{data_uri(asked.picture)}" alt="" draggable="false">'
        f'<span class="fo-ring" style="left:{left:.2%};top:{top:.2%}"></span></div>'
        f'<figcaption role="status">{escaped(asked.words)}</figcaption></figure>'
    )
