"""Copies of one network's attention at the same places of another: for a network that was built anew."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from foveate.errors import PlaceError
from foveate.surgery.attended import ATTENTION, Absent, attended_places, host_path
from foveate.surgery.fingerprint import sides
from foveate.surgery.insert import put_in
from foveate.surgery.unwrap import unwrapped


def transplant(source: nn.Module, target: nn.Module) -> nn.Module:
    """Seat copies of what is attached to one network at the same places of another, in place.

    The copies have the weights, the seats and the switches of the originals; device and type are those of the places
    they come to. Nothing happens if a place is missing or has another width.

    Args:
        source: The attended network.
        target: A network of the same architecture, with nothing attached.

    Returns:
        The second network.

    Raises:
        OptionError: If one of them is no network.
        PlaceError: If the second network lacks a place, has one of another width, or carries attention already.

    Example:
        >>> import foveate
        >>> from foveate import hosts
        >>> trained = foveate.attach(hosts.build("foveate/resnet8", classes=10), "se")
        >>> fresh = transplant(trained, hosts.build("foveate/resnet8", classes=3))
        >>> attention_state(fresh).keys() == attention_state(trained).keys()
        True
    """
    for network in (source, target):
        unwrapped(network)  # refuses what is no network
    if attended_places(target):
        raise PlaceError("the network built anew carries attention already; detach it first")
    places = {host_path(source, path): place for path, place in attended_places(source).items()}
    for path, place in places.items():
        _check_same(path, place.foveate_host, target)
    paths = [path for path, place in places.items() for _ in place.foveate_seats]
    seats = [how for place in places.values() for how in place.foveate_seats.values()]
    modules = [copy.deepcopy(place.foveate[key]) for place in places.values() for key in place.foveate_seats]
    put_in(target, paths, seats, modules)
    for path, place in attended_places(target).items():
        place.foveate_disabled = places[host_path(target, path)].foveate_disabled
    return target


def attention_state(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor that attention holds, parameters and buffers, by its key in ``state_dict``.

    Example:
        >>> from foveate import hosts
        >>> attention_state(hosts.build("foveate/resnet8", classes=10))
        {}
    """
    unwrapped(model)  # refuses what is no network
    return {
        f"{host_path(model, path)}.{ATTENTION}.{key}": value
        for path, place in attended_places(model).items()
        for key, value in place.foveate.state_dict().items()
    }


def _check_same(path: str, host: nn.Module, target: nn.Module) -> None:
    if isinstance(host, Absent):  # attention on a shortcut that is no module: there is nothing to compare
        return
    try:
        found = target.get_submodule(path).state_dict()
    except AttributeError:
        raise PlaceError(
            f"the network built anew has no '{path}', where attention was; it must be of the same architecture"
        ) from None
    for name, old in host.state_dict().items():
        new = found.get(name)
        if new is not None and old.shape != new.shape:
            raise PlaceError(
                f"'{path}.{name}' is {sides(new.shape)} in the network built anew, and was {sides(old.shape)} where "
                "attention was attached; if its width follows the number of classes, attach to a network with as many "
                "classes, or leave the place out with `exclude`"
            )
