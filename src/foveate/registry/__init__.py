"""The catalogue's index: what each mechanism says about itself, and how it is found by name.

A mechanism registers itself with ``@mechanism(Card(...))``. Its options are the keyword parameters of its
constructor; nothing lists them a second time.

`cards` is what a mechanism says in words; `mechanisms` what its class says; `lookup` finds one by name; `specs` is one
with options, written, read and built.
"""

from foveate.registry.cards import Card, Paper
from foveate.registry.lookup import aliases, get, mechanism, names
from foveate.registry.mechanisms import FROM_PLACE, KINDS, PROTOCOLS, Mechanism, Option
from foveate.registry.specs import Spec, create, parse, parse_list, spec

__all__ = [
    "FROM_PLACE",
    "KINDS",
    "PROTOCOLS",
    "Card",
    "Mechanism",
    "Option",
    "Paper",
    "Spec",
    "aliases",
    "create",
    "get",
    "mechanism",
    "names",
    "parse",
    "parse_list",
    "spec",
]
