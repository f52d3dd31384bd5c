"""Reports of studies, and a small study started from here."""

from __future__ import annotations

import gradio as gr

from foveate.app.comparing import EPOCHS, MECHANISMS, SAMPLES, SEEDS
from foveate.app.handlers import MINE, Handlers
from foveate.app.wiring import LIGHT, Updates, refusing
from foveate.registry import names

WORDS = f"""### A small comparison of your own
Trains the usual small network on the embedded garments, without attention and with up to {MECHANISMS} mechanisms, in a
process of its own. It is a demonstration: so few runs decide nothing, and the report says so."""


def studies_tab(handlers: Handlers, page: gr.Blocks) -> None:
    """Build the tab, with everything that its controls do."""
    with gr.Row():
        name = gr.Dropdown([*handlers.studies.reports(), MINE], label="Report", elem_id="report-name", scale=3)
        go = gr.Button("Open the report", elem_id="open", scale=1)
    refusal = gr.HTML(elem_id="refusal-studies")
    report = gr.HTML(elem_id="report")
    gr.Markdown(WORDS)
    attention = gr.Dropdown(
        names(), value=["squeeze_excite"], multiselect=True, max_choices=MECHANISMS, label="Mechanisms", elem_id="arms"
    )
    with gr.Row():
        seeds = gr.Slider(1, SEEDS, value=2, step=1, label="Runs of each", elem_id="seeds", min_width=150)
        epochs = gr.Slider(1, EPOCHS, value=1, step=1, label="Epochs", elem_id="epochs", min_width=150)
        samples = gr.Slider(64, SAMPLES, value=512, step=64, label="Training images", elem_id="samples", min_width=150)
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_id="start")
        stop = gr.Button("Stop", variant="stop", elem_id="stop")
    progress = gr.HTML(elem_id="progress")
    clock = gr.Timer(1.0, active=False)

    @refusing(refusal, report)
    def opened(name: str | None, request: gr.Request) -> Updates:
        return {report: handlers.report(request.session_hash, name)}

    @refusing(refusal)
    def started(attention: list[str], seeds: float, epochs: float, samples: float, request: gr.Request) -> Updates:
        said = handlers.start(request.session_hash, attention, seeds, epochs, samples)
        return {progress: said, clock: gr.Timer(active=True)}

    @refusing(refusal)
    def stopped(request: gr.Request) -> Updates:
        return {progress: handlers.stop(request.session_hash), clock: gr.Timer(active=False)}

    def tick(request: gr.Request) -> Updates:
        said, goes_on, finished = handlers.progress(request.session_hash)
        updates: Updates = {progress: said}
        if not goes_on:
            updates[clock] = gr.Timer(active=False)
            choices = handlers.reports(request.session_hash)
            updates[name] = gr.Dropdown(choices, value=MINE) if finished else gr.Dropdown(choices)
        return updates

    def begin(request: gr.Request) -> Updates:
        choices = handlers.reports(request.session_hash)
        return {name: gr.Dropdown(choices, value=choices[0] if choices else None)}

    page.load(begin, outputs=[name], show_progress="hidden", **LIGHT)
    go.click(opened, name, [refusal, report], **LIGHT, api_name="report")
    start.click(started, [attention, seeds, epochs, samples], [refusal, progress, clock], **LIGHT, api_name="start")
    stop.click(stopped, None, [refusal, progress, clock], **LIGHT, api_name="stop")
    clock.tick(tick, None, [progress, clock, name], show_progress="hidden", **LIGHT)
