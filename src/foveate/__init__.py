"""Attention for convolutional networks: faithful mechanisms, attached in one line, compared honestly."""

from foveate import catalogue as catalogue
from foveate import hosts as hosts
from foveate.attention import Attention
from foveate.errors import FoveateError
from foveate.explain import record
from foveate.registry import Card, Paper, Spec, create, get, mechanism, names, spec
from foveate.surgery import attach, attention_parameters, detach, plan

__all__ = [
    "Attention",
    "Card",
    "FoveateError",
    "Paper",
    "Spec",
    "attach",
    "attention_parameters",
    "create",
    "detach",
    "get",
    "mechanism",
    "names",
    "plan",
    "record",
    "spec",
]
__version__ = "0.1.0"
