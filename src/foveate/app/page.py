"""The page: its parts, each in a tab."""

from __future__ import annotations

import gradio as gr

from foveate.app.handlers import Handlers
from foveate.app.tab_look import look_tab
from foveate.app.tab_studies import studies_tab
from foveate.app.tab_two import two_tab

HEAD = """# foveate
Where does the attention of a convolutional network look, what does it cost, and how far can its maps be trusted?"""


def build(handlers: Handlers) -> gr.Blocks:
    """The page, ready to be served."""
    with gr.Blocks(title="foveate: see attention", analytics_enabled=False) as page:
        gr.Markdown(HEAD)
        with gr.Tab("Look"):
            look_tab(handlers, page)
        with gr.Tab("Two runs"):
            two_tab(handlers, page)
        with gr.Tab("Studies"):
            studies_tab(handlers, page)

        def leave(request: gr.Request) -> None:
            handlers.leave(request.session_hash)
            # gradio keeps everything that was shown, pictures too, until so many others came
            page.state_holder.session_data.pop(request.session_hash or "", None)

        page.unload(leave)
    return page
