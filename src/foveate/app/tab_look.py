"""One picture and one network: places, maps, evidence, costs, and questions to a position."""

from __future__ import annotations

from typing import Any

import gradio as gr

from foveate.app.asking import LOOKED_AT, LOOKS, Asked
from foveate.app.handlers import Handlers
from foveate.app.networks import Choice, offered
from foveate.app.pad import SCRIPT, pad
from foveate.app.pictures import garments
from foveate.app.wiring import LIGHT, TORCH, Updates, refusing
from foveate.explain.activation import METHODS
from foveate.registry import names

BUILT, TRAINED, NONE = "a network and a mechanism", "a trained run", "none"


def look_tab(handlers: Handlers, page: gr.Blocks) -> None:
    """Build the tab, with everything that its controls do."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picked = gr.Dropdown(handlers.gallery.names(), label="Picture", elem_id="picked")
            sent = gr.UploadButton(
                "Send a picture of yours (PNG, JPEG, WebP, BMP, GIF)", file_count="single", elem_id="sent", size="md"
            )
            picture = gr.HTML(elem_id="picture")
            source = gr.Radio([BUILT, TRAINED], value=BUILT, label="Network", elem_id="source")
            host = gr.Dropdown(
                offered(handlers.networks.hosts), value=handlers.networks.hosts[0], label="Host", elem_id="host"
            )
            mechanism = gr.Dropdown(
                [NONE, *names()],
                value="psanet",
                label="Mechanism, perhaps with options: cbam:reduction=8",
                allow_custom_value=True,
                elem_id="mechanism",
            )
            run = gr.Dropdown(list(handlers.networks.runs()), label="Trained run", visible=False, elem_id="run")
            go = gr.Button("Look", variant="primary", elem_id="look")
            refusal = gr.HTML(elem_id="refusal")
        with gr.Column(scale=3, min_width=280):
            answer = gr.HTML(elem_id="answer")
            with gr.Group(visible=False) as question:
                related = gr.Dropdown([], label="Ask a map that relates positions", elem_id="related")
                which = gr.Radio([LOOKS, LOOKED_AT], value=LOOKS, label="Show", elem_id="which")
                field = gr.HTML(elem_id="pad", js_on_load=SCRIPT, padding=True)
                with gr.Row():
                    row = gr.Slider(1, 2, value=1, step=1, label="Row", elem_id="row", min_width=120)
                    column = gr.Slider(1, 2, value=1, step=1, label="Column", elem_id="column", min_width=120)
    with gr.Accordion("Maps, place by place", open=True):
        maps = gr.HTML(elem_id="maps", padding=True)
        one = gr.Dropdown([], label="One map as it is", elem_id="one-map")
        single = gr.HTML(elem_id="single", padding=True)
    with gr.Accordion("Evidence for a class (Grad-CAM and its kin)", open=True):
        with gr.Row():
            target = gr.Dropdown([], label="Class", elem_id="target")
            method = gr.Dropdown(list(METHODS), value="gradcam", label="Method", elem_id="method")
        evidence = gr.HTML(elem_id="evidence", padding=True)
    with gr.Accordion("Places", open=False, elem_id="places-box"):
        places = gr.HTML(elem_id="places")
    with gr.Accordion("Cost, and how far to trust the map", open=False, elem_id="numbers-box"):
        with gr.Row():
            price = gr.Button("Measure the cost with and without attention", elem_id="price")
            judge = gr.Button("Measure whether the answer hangs on the map", elem_id="judge")
        costs = gr.HTML(elem_id="costs")
        trust = gr.HTML(elem_id="trust")

    shown = (answer, maps, single, evidence, places, costs, trust)
    asked_of = (refusal, field, row, column)

    @refusing(refusal, picture, *shown)
    def pick(name: str, request: gr.Request) -> Updates:
        return {picture: handlers.pick(request.session_hash, name), **dict.fromkeys(shown, ""), question: _hidden()}

    @refusing(refusal, picture, *shown)
    def send(path: str | None, request: gr.Request) -> Updates:
        found = handlers.send(request.session_hash, path)
        return {picture: found, **dict.fromkeys(shown, ""), question: _hidden(), picked: None}

    @refusing(refusal, *shown)
    def look(source: str, host: str, mechanism: str, run: str | None, request: gr.Request) -> Updates:
        attention = "" if mechanism in (NONE, None) else mechanism
        choice = Choice(checkpoint=run or "?") if source == TRAINED else Choice(host=host, attention=attention)
        found = handlers.look(request.session_hash, choice)
        updates: Updates = {answer: found.answer, maps: found.maps, evidence: found.evidence, places: found.places}
        updates |= {costs: "", trust: "", question: gr.Group(visible=bool(found.affinities))}
        updates[single] = found.one_map
        updates[one] = gr.Dropdown(found.names, value=found.names[0] if found.names else None)
        updates[target] = gr.Dropdown(found.classes, value=found.classes[0] if found.classes else None)
        updates[related] = gr.Dropdown(found.affinities, value=found.affinities[-1] if found.affinities else None)
        updates[which] = LOOKS
        return updates | (_asked(found.asked) if found.asked else {})

    def choose(source: str, runs: list[str] | None = None) -> Updates:
        trained = source == TRAINED
        list_: Updates = {} if runs is None else {"choices": runs, "value": runs[0] if runs else None}
        return {
            host: gr.Dropdown(visible=not trained),
            mechanism: gr.Dropdown(visible=not trained),
            run: gr.Dropdown(visible=trained, **list_),
        }

    @refusing(refusal, single)
    def detail(name: str | None, request: gr.Request) -> Updates:
        return {single: handlers.one_map(request.session_hash, name)}

    @refusing(refusal, evidence)
    def argue(target: str | None, method: str, request: gr.Request) -> Updates:
        return {evidence: handlers.evidence(request.session_hash, target, method)}

    def _asked(asked: Asked) -> Updates:
        height, width = asked.size
        return {
            field: pad(asked),
            row: gr.Slider(maximum=height, value=asked.row + 1),
            column: gr.Slider(maximum=width, value=asked.column + 1),
        }

    @refusing(refusal)
    def point(related: str, which: str, event: gr.EventData, request: gr.Request) -> Updates:
        across, down = (float(getattr(event, name)) for name in ("across", "down"))
        return _asked(handlers.ask(request.session_hash, related, across, down, which))

    @refusing(refusal)
    def slide(related: str, which: str, row: float, column: float, request: gr.Request) -> Updates:
        return _asked(handlers.ask_cell(request.session_hash, related, int(row) - 1, int(column) - 1, which))

    @refusing(refusal, costs)
    def measure(request: gr.Request) -> Updates:
        return {costs: handlers.costs(request.session_hash)}

    @refusing(refusal, trust)
    def judged(request: gr.Request) -> Updates:
        return {trust: handlers.trust(request.session_hash)}

    def begin(request: gr.Request) -> Updates:
        runs = list(handlers.networks.runs())
        first = next(iter(garments()))
        return {
            picked: gr.Dropdown(handlers.gallery.names(), value=first),
            picture: handlers.pick(request.session_hash, first),
            source: gr.Radio(value=TRAINED if runs else BUILT, visible=bool(runs)),
            **choose(TRAINED if runs else BUILT, runs),
        }

    fresh: Any = {"trigger_mode": "always_last", "show_progress": "hidden", **TORCH}
    everything = [refusal, picture, *shown, question]
    page.load(begin, outputs=[picked, picture, source, host, mechanism, run], show_progress="hidden", **LIGHT)
    picked.input(pick, picked, everything, **LIGHT, api_name="pick")
    sent.upload(send, sent, [*everything, picked], **LIGHT, api_name="send")
    source.input(lambda source: choose(source), source, [host, mechanism, run], show_progress="hidden", **LIGHT)
    go.click(
        look,
        [source, host, mechanism, run],
        [*everything, one, target, related, which, field, row, column],
        **TORCH,
        api_name="look",
    )
    one.input(detail, one, [refusal, single], **TORCH, api_name="one_map")
    for control in (target, method):
        control.input(argue, [target, method], [refusal, evidence], **TORCH, api_name=f"evidence_{control.elem_id}")
    field.select(point, [related, which], list(asked_of), **fresh)
    for control in (row, column, related, which):
        control.input(slide, [related, which, row, column], list(asked_of), **fresh, api_name=f"ask_{control.elem_id}")
    price.click(measure, None, [refusal, costs], **TORCH, api_name="costs")
    judge.click(judged, None, [refusal, trust], **TORCH, api_name="trust")


def _hidden() -> gr.Group:
    return gr.Group(visible=False)
