"""All that an actor answers: what its driver handles, then what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.runtime.calls import Calls, Handler
from actors.runtime.derived import domains, host_devices, native, networks, secrets_and_filters, storage_pools
from actors.runtime.derived.newer import DERIVATIONS, derive
from actors.runtime.derived.shorter import SHORTENINGS, shorten

_BY_TYPE: Final[dict[str, Calls[Any]]] = {
    "domain": domains.calls,
    "network": networks.calls,
    "storage_pool": storage_pools.calls,
    "interface": host_devices.interface_calls,
    "node_device": host_devices.node_device_calls,
    "secret": secrets_and_filters.secret_calls,
    "nwfilter": secrets_and_filters.nwfilter_calls,
}


def derived_handlers(own: Mapping[str, Handler], serves: tuple[str, ...]) -> dict[str, Handler]:
    """The driver's handlers and the runtime's, of which the driver's go first. Raises TypeError for an unknown type."""
    handlers = dict(own)
    for kind in serves:
        if kind not in _BY_TYPE:
            raise TypeError(f"the runtime answers nothing about '{kind}'; it knows {', '.join(_BY_TYPE)}")
        for handler in _BY_TYPE[kind]:
            handlers.setdefault(handler.procedure.name, handler)
    for handler in native.calls:
        handlers.setdefault(handler.procedure.name, handler)
    for name, derivation in DERIVATIONS.items():
        newer = handlers.get(derivation.newer)
        if newer is not None and name not in handlers:
            handlers[name] = derive(name, derivation, newer)
    for name, how in SHORTENINGS.items():
        whole = handlers.get(how.whole)
        if whole is not None and name not in handlers:
            handlers[name] = shorten(name, how, whole)
    return handlers
