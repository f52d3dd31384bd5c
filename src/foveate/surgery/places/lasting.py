"""Which of the spots that were found will last: those that a network uses, and does not rewrite for inference."""

from __future__ import annotations

from foveate.surgery.places.passes import Pass
from foveate.surgery.places.spots import Found, Spot, known_as, rewriter


def leading(seen: Pass, found: Found) -> Found:
    """Without the places in parts that a network runs for nothing: attention there would never have a gradient."""
    used = [spot for spot in found.spots if spot.value in seen.live]
    if not used:  # what the network returns hides where it comes from
        return found
    idle = [
        f"'{known_as(spot.path)}' leads to nothing that the network returns"
        for spot in found.spots
        if spot.value not in seen.live
    ]
    return Found(used, found.unusable + idle)


def lasting(seen: Pass, found: Found) -> Found:
    """Without the places inside modules that rewrite their inside for inference: they would drop attention there."""
    spots, unusable = list[Spot](), list(found.unusable)
    for spot in found.spots:
        calls = seen.calls_of(spot.path)
        around = rewriter(seen, calls[0]) if calls else None
        if around is None:
            spots.append(spot)
        else:
            inside, whole = known_as(spot.path), known_as(around.path)
            unusable.append(
                f"'{inside}' is inside '{whole}', which rewrites its inside for inference and would drop or "
                f"distort what is attached there; name '{whole}' as a whole"
            )
    return Found(spots, unusable)
