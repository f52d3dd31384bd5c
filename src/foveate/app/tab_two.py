"""Two trained runs on the picture, side by side."""

from __future__ import annotations

import gradio as gr

from foveate.app.handlers import Handlers
from foveate.app.wiring import LIGHT, TORCH, Updates, refusing


def two_tab(handlers: Handlers, page: gr.Blocks) -> None:
    """Build the tab, with everything that its controls do."""
    gr.Markdown("Two trained runs on the picture that was picked or sent under *Look*.")
    there = list(handlers.networks.runs())
    with gr.Row():
        one = gr.Dropdown(there, label="One run", elem_id="one")
        other = gr.Dropdown(there, label="Another run", elem_id="other")
    go = gr.Button("Compare on this picture", variant="primary", elem_id="both")
    refusal = gr.HTML(elem_id="refusal-two")
    shown = gr.HTML(elem_id="beside")

    @refusing(refusal, shown)
    def beside(one: str | None, other: str | None, request: gr.Request) -> Updates:
        return {shown: handlers.beside(request.session_hash, one, other)}

    def begin() -> Updates:
        runs = list(handlers.networks.runs())
        return {
            one: gr.Dropdown(runs, value=runs[0] if runs else None),
            other: gr.Dropdown(runs, value=runs[-1] if runs else None),
        }

    page.load(begin, outputs=[one, other], show_progress="hidden", **LIGHT)
    go.click(beside, [one, other], [refusal, shown], **TORCH, api_name="beside")
