"""Putting attention into a network that exists, keeping it, showing it, and taking it out again."""

from foveate.surgery.adapters import from_pretrained, load, push_to_hub, save
from foveate.surgery.attach import attach, attention_parameters, detach
from foveate.surgery.attached import AttachedAttention, attached
from foveate.surgery.bake import bake
from foveate.surgery.convert import convert, convert_back
from foveate.surgery.optimize import Optimized, optimize, optimized, restore
from foveate.surgery.parameters import (
    freeze_attention,
    freeze_host,
    parameter_groups,
    unfreeze_attention,
    unfreeze_host,
)
from foveate.surgery.plan import Plan, PlannedPlace, plan
from foveate.surgery.replace import replace
from foveate.surgery.status import Status, disable, enable, status, use

__all__ = [
    "AttachedAttention",
    "Optimized",
    "Plan",
    "PlannedPlace",
    "Status",
    "attach",
    "attached",
    "attention_parameters",
    "bake",
    "convert",
    "convert_back",
    "detach",
    "disable",
    "enable",
    "freeze_attention",
    "freeze_host",
    "from_pretrained",
    "load",
    "optimize",
    "optimized",
    "parameter_groups",
    "plan",
    "push_to_hub",
    "replace",
    "restore",
    "save",
    "status",
    "unfreeze_attention",
    "unfreeze_host",
    "use",
]
