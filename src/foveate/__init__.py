"""Attention for convolutional networks: faithful mechanisms, attached in one line, compared honestly."""

from foveate import catalogue as catalogue
from foveate import hosts as hosts
from foveate.attention import Attention
from foveate.certificate import certificate_of
from foveate.errors import FoveateError
from foveate.explain import record
from foveate.fusion import Fusion, GuidedGate
from foveate.registry import Card, Paper, Spec, create, get, mechanism, names, spec
from foveate.replacement import ConvShape, Replacement
from foveate.surgery import (
    attach,
    attached,
    attention_parameters,
    bake,
    convert,
    convert_back,
    detach,
    disable,
    enable,
    freeze_attention,
    freeze_host,
    from_pretrained,
    load,
    optimize,
    optimized,
    parameter_groups,
    plan,
    push_to_hub,
    replace,
    restore,
    save,
    status,
    unfreeze_attention,
    unfreeze_host,
    use,
)

__all__ = [
    "Attention",
    "Card",
    "ConvShape",
    "FoveateError",
    "Fusion",
    "GuidedGate",
    "Paper",
    "Replacement",
    "Spec",
    "attach",
    "attached",
    "attention_parameters",
    "bake",
    "certificate_of",
    "convert",
    "convert_back",
    "create",
    "detach",
    "disable",
    "enable",
    "freeze_attention",
    "freeze_host",
    "from_pretrained",
    "get",
    "load",
    "mechanism",
    "names",
    "optimize",
    "optimized",
    "parameter_groups",
    "plan",
    "push_to_hub",
    "record",
    "replace",
    "restore",
    "save",
    "spec",
    "status",
    "unfreeze_attention",
    "unfreeze_host",
    "use",
]
__version__ = "0.1.0"
