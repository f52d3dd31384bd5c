"""One network: is it convolutional, where does attention go, and what do the checks say. The result is plain data."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import foveate
from foveate.errors import FoveateError, PlaceError
from foveate.surgery.attended import attended_places
from foveate.surgery.places import find_places

from . import checks
from .convolutional import kind_of
from .hosts import Host, HostError, native_image, on_meta, prepare, prepare_without_values, trouble_without_example
from .networks import Network

MECHANISMS = ("se", "eca", "cbam", "psanet")
PLACES = ("residual", "stage", "conv")
REFUSED = "refused"
LARGE = 40_000_000  # parameters; above, what takes long is done with one mechanism
HUGE = 250_000_000  # parameters; above, nothing is computed
Report = dict[str, Any]


def examine(
    network: Network,
    *,
    thorough: bool = False,
    hybrids: bool = False,
    without: tuple[str, ...] = (),
    tell: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Everything about one network.

    Args:
        network: The network.
        thorough: Run every check with every mechanism, and Inductor with one; otherwise graphs are captured and
            pickles made with one mechanism a network, in turns, and what takes long is done as the size allows.
        hybrids: Whether to attach to hybrids of convolution and attention too.
        without: Checks to leave for later.
        tell: Called with the report so far, whenever a mechanism is begun.
    """
    report: Report = {"name": network.name, "family": network.family, "bonus": network.bonus}
    started = time.process_time()
    try:
        report["kind"], report["parameters"] = _kind_and_size(network)
        if report["kind"] == "tokens" or (report["kind"] == "hybrid" and not hybrids):
            return report
        report["bonus"] |= report["kind"] == "hybrid"
        host = (prepare_without_values if report["parameters"] > HUGE else prepare)(network)
    except HostError as error:
        report["host_error"] = str(error)
        return report
    report["parameters"] = sum(p.numel() for p in host.model.parameters())
    report["input"] = list(host.x.shape)
    sized = "meta" if host.is_meta else "one" if report["parameters"] > LARGE else "all"
    report["depth"] = "thorough" if thorough else sized
    trouble = trouble_without_example(network)
    if trouble:
        report["without_example"] = _shortened(trouble)
    report["mechanisms"] = {}
    for mechanism in MECHANISMS:
        report["doing"] = mechanism
        tell(report)
        left_out = _left_out(network, report["depth"], mechanism)
        left_out |= dict.fromkeys(without, "left for later")
        report["mechanisms"][mechanism] = _with(host, mechanism, left_out)
    del report["doing"]
    report["seconds"] = round(time.process_time() - started, 1)
    return report


def _kind_and_size(network: Network) -> tuple[str, int]:
    if not network.listed:
        return "convolutional", 0
    try:
        model = on_meta(network)
        kind = kind_of(model, native_image(model, network))
    except (NotImplementedError, RuntimeError, ValueError):  # it makes tensors of its own, on the processor
        model = network.build()
        kind = kind_of(model, native_image(model, network))
    return kind, sum(p.numel() for p in model.parameters())


def _left_out(network: Network, depth: str, mechanism: str) -> dict[str, str]:
    """Which checks are not run with this mechanism, and why."""
    captured = MECHANISMS[network.number % 3]  # an affinity takes minutes to capture
    turn = MECHANISMS[network.number % 4]
    if depth == "meta":
        return dict.fromkeys(checks.OF_VALUES, f"on the meta device, because it has over {HUGE:,} parameters")
    if depth == "thorough":
        return {} if mechanism == turn else {"inductor": f"with {turn}"}
    left_out = {"inductor": "on the sample only"}
    if mechanism != captured:
        left_out["capture"] = f"with {captured}"
        if depth == "one":
            left_out |= dict.fromkeys(checks.HEAVY, f"with {captured}, because it has over {LARGE:,} parameters")
    if depth == "all" and mechanism != turn:
        left_out["pickle"] = f"with {turn}"
    return left_out


def _with(host: Host, mechanism: str, left_out: dict[str, str]) -> Report:
    result: Report = {"at": None, "places": 0, "checks": {}, "why": {}, "took": {}}
    started = time.process_time()
    before = list(host.model.state_dict())
    elsewhere = True
    for at in PLACES:
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always", foveate.errors.FoveateWarning)
                spec = _spec(host, mechanism, at)
                foveate.attach(host.model, spec, at=at, example=host.x[:1])
        except FoveateError as error:
            result.setdefault("refused", {})[at] = _shortened(f"{type(error).__name__}: {error}")
            elsewhere = isinstance(error, PlaceError)
        except Exception as error:
            result["checks"]["places"] = False
            result["why"]["places"] = _shortened(f"{type(error).__name__}: {error}")
        else:
            result["at"], result["attention"] = at, spec
            messages = [str(w.message) for w in warned if issubclass(w.category, foveate.errors.FoveateWarning)]
            if messages:
                result["warned"] = messages
        result["took"]["places"] = round(time.process_time() - started, 2)
        if result["at"] is None and (list(host.model.state_dict()) != before or attended_places(host.model)):
            result["checks"]["places"] = False
            result["why"]["places"] = f"a refusal left something behind: {result}"
        if result["at"] or "places" in result["checks"] or not elsewhere:
            break
    if result["at"] is None:
        _bare(host)
        result["checks"].setdefault("places", False)
        result["why"].setdefault("places", REFUSED)
        return result
    result["places"] = len(attended_places(host.model))
    result["checks"]["places"] = result["places"] > 0
    made = checks.Attachment(host, mechanism)
    wanted = (name for name in checks.CHECKS[1:] if name not in left_out)
    for outcome in checks.results(made, wanted):
        result["checks"][outcome.name] = outcome.passed
        result["took"][outcome.name] = round(outcome.seconds, 2)
        if outcome.why:
            result["why"][outcome.name] = _shortened(outcome.why)
    for name, why in left_out.items():
        result["checks"][name], result["why"][name] = None, why
    result.update({name.replace(" ", "_"): note for name, note in made.notes.items()})
    result["seconds"] = round(time.process_time() - started, 1)
    _bare(host)
    return result


def _bare(host: Host) -> None:
    """Take out what a failure left behind: the next mechanism wants the host as it was."""
    if attended_places(host.model):
        foveate.detach(host.model)
        host.model.load_state_dict(host.state)


def _spec(host: Host, mechanism: str, at: str) -> str:
    """An affinity works on maps of at most 32×32, and on no smaller ones than it must: one position relates nothing."""
    if mechanism != "psanet":
        return mechanism
    largest = max(max(place.size) for place in find_places(host.model, at, host.x[:1]))
    return f"psanet:shrink={-(-largest // 32)}"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 400 else line[:397] + "..."
