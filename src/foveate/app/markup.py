"""Pieces of the page as HTML: whatever comes from outside is escaped here, and nothing is linked to."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

from jaxtyping import UInt8
from torch import Tensor


def escaped(text: object) -> str:
    """Text as text, whatever it holds.

    Example:
        >>> escaped("<b>&")
        '&lt;b&gt;&amp;'
    """
    return html.escape(str(text))


def note(*sentences: str, kind: str = "note") -> str:
    """Sentences in a box of their own; readers of screens are told of a ``"refusal"`` at once.

    Example:
        >>> note("a < b")
        '<div class="fo-note" role="status"><p>a &lt; b</p></div>'
    """
    role = "alert" if kind == "refusal" else "status"
    inside = "".join(f"<p>{escaped(one)}</p>" for one in sentences if one)
    return f'<div class="fo-{escaped(kind)}" role="{role}">{inside}</div>' if inside else ""


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column names its rows; on a narrow screen it scrolls in its own box.

    Example:
        >>> table("sums", ["of", "is"], [["1+1", 2]])[:68]
        '<div class="fo-table" tabindex="0" role="region" aria-label="sums"><'
    """
    columns = "".join(f'<th scope="col">{escaped(one)}</th>' for one in head)
    lines = "".join(
        f'<tr><th scope="row">{escaped(row[0])}</th>' + "".join(f"<td>{escaped(one)}</td>" for one in row[1:]) + "</tr>"
        for row in rows
    )
    name = escaped(title)
    return (
        f'<div class="fo-table" tabindex="0" role="region" aria-label="{name}"><h4>{name}</h4><table>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def bars(title: str, shares: Sequence[tuple[str, float]]) -> str:
    """Shares of one as bars beside their names.

    Example:
        >>> "width:25.0%" in bars("classes", [("cat", 0.25)])
        True
    """
    lines = "".join(
        f'<li><span>{escaped(name)}</span><span class="fo-bar"><i style="width:{share:.1%}"></i></span>'
        f"<b>{share:.1%}</b></li>"
        for name, share in shares
    )
    return f'<div class="fo-bars"><h4>{escaped(title)}</h4><ul>{lines}</ul></div>'


def figure(title: str, caption: str, pixels: UInt8[Tensor, "c h w"], *, small: bool = False) -> str:
    """A picture with a title above and, below it, what is shown."""
    kind = "fo-figure fo-small" if small else "fo-figure"
    return (
        f'<figure class="{kind}"><h4>{escaped(title)}</h4><img src="{data_uri(pixels)}" '
        f'alt="{escaped(f"{title}: {caption}")}"><figcaption>{escaped(caption)}</figcaption></figure>'
    )


def data_uri(pixels: UInt8[Tensor, "c h w"]) -> str:
    """A picture in the page itself: no file that could be asked for by somebody else."""
    from PIL import Image

    plain = pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(plain.contiguous().numpy()).save(content, format="PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def framed(document: str, title: str) -> str:
    """A whole document in a frame without scripts, forms or an origin of its own."""
    return f'<iframe class="fo-report" sandbox="" title="{escaped(title)}" srcdoc="{html.escape(document)}"></iframe>'
