"""Places by what the network does there, read from one forward pass.

=============  ==========================================================================================
preset         attention acts on
=============  ==========================================================================================
``residual``   a residual branch, after its last module, before the addition (the SE paper's standard)
``pre``        a residual branch, before its first module (SE-PRE)
``post``       what a residual block returns, after the addition (SE-POST)
``identity``   the shortcut of a residual block, beside the branch (SE-Identity)
``stage``      what the network returns at the end of each resolution, on its way down
``skip``       the map of an encoder where a decoder joins it, and only there
``neck``       the maps of a feature pyramid, one a level
``conv``       every convolution of more than one position, after the norm that follows it
=============  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from foveate.surgery.places.passes import Pass
from foveate.surgery.places.residuals import identity, post, pre, residual
from foveate.surgery.places.resolutions import neck, skip, stage
from foveate.surgery.places.spots import CONVOLUTIONS, Found, Spot, bare, made_by, pointwise_after, within_attention

_NORMS = {"batch_norm", "group_norm", "layer_norm", "instance_norm"}


def conv(seen: Pass) -> Found:
    """Every convolution that looks at more than one position, with the norm that follows it."""
    spots, every = list[Spot](), list[Spot]()
    for value in seen.values:
        if value.operation not in CONVOLUTIONS or not value.is_map or not value.returned_by:
            continue
        if within_attention(seen, value.call, itself=True):
            continue
        if len(value.shape) != seen.axes:
            continue  # a convolution along another axis, such as the one of ECA
        after = [use for use in value.uses if use.operation in _NORMS and use.returned_by]
        normed = after[0] if len(after) == 1 and len(value.uses) == 1 else value
        after_it = (made_by(seen, one, seen.root, through=False) for one in pointwise_after(normed))
        made = next((spot for spot in after_it if spot is not None), None)
        if made is None:
            continue
        every.append(made)
        kernel = getattr(bare(seen.modules[value.returned_by[0].path]), "kernel_size", (1,))
        if any(side > 1 for side in (kernel if isinstance(kernel, tuple) else (kernel,))):
            spots.append(made)
    return Found(spots or every, [])


PRESETS: dict[str, Callable[[Pass], Found]] = {
    "residual": residual,
    "pre": pre,
    "post": post,
    "identity": identity,
    "stage": stage,
    "skip": skip,
    "neck": neck,
    "conv": conv,
}
