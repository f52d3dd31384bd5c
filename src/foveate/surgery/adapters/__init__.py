"""What was added to a network, as an object of its own: saved, loaded onto another host, shared on a hub.

`fingerprint` knows which tensors changed; `manifest` is the folder; `recognise` knows a host again; `adapter` saves and
loads; `hub` shares; `transplant` carries attention to a network that was built anew.
"""

from foveate.surgery.adapters.adapter import load, save
from foveate.surgery.adapters.hub import from_pretrained, push_to_hub

__all__ = ["from_pretrained", "load", "push_to_hub", "save"]
