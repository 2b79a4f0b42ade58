"""In what order QEMU can have its processors."""

from __future__ import annotations

from conf.domain.domain import Domain
from schema.errors import ConfigUnsupported


def check_states(domain: Domain) -> None:
    """Refuses processors listed one by one whose order no start can have. Raises ConfigUnsupported."""
    vcpus = domain.vcpus.vcpus if domain.vcpus is not None else []
    if not vcpus:
        return
    first = before = vcpus[0]
    if first.hotpluggable:
        raise ConfigUnsupported("vcpu0 can't be hotpluggable")
    if (first.order or 1) != 1:
        raise ConfigUnsupported("vcpu0 must be enabled first")
    for one in vcpus[1:]:
        if one.enabled and bool(one.order) != bool(first.order):
            raise ConfigUnsupported("all vcpus must have either set or unset order")
        if not one.hotpluggable:
            if before.hotpluggable:
                raise ConfigUnsupported("online non-hotpluggable vcpus need to be ordered prior to hotplugable vcpus")
            if (before.order or 0) > (one.order or 0):
                raise ConfigUnsupported("online non-hotpluggable vcpus must be ordered in ascending order")
        before = one
