"""Putting attention into a network that exists, and taking it out again."""

from foveate.surgery.attach import attach, attention_parameters, detach
from foveate.surgery.plan import Plan, PlannedPlace, plan

__all__ = ["Plan", "PlannedPlace", "attach", "attention_parameters", "detach", "plan"]
