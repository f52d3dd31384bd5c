"""What was added to a network, as an object of its own: saved, loaded onto another host, shared on a hub.

`manifest` says what sits where and for which host; `manifest_json` writes and reads that, and `folder` both files.
`saving` and `loading` are the two ways, with `recognise`, which knows a host again, and `rebuild`, which builds the
attention again. `hub` shares; `transplant` carries attention to a network that was built anew.
"""

from foveate.surgery.adapters.hub import from_pretrained, push_to_hub
from foveate.surgery.adapters.loading import load
from foveate.surgery.adapters.saving import save

__all__ = ["from_pretrained", "load", "push_to_hub", "save"]
