"""What protects a guest from its host, and the host from its guests."""

from __future__ import annotations

import os
from typing import Any, Final

from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.owning.identity import label_of
from actors.qemu.tuning.parameters import STRING_OKAY, read_parameters
from actors.runtime.calls import Calls
from schema.errors import DomainStateError, InvalidArguments, OperationUnsupported
from schema.objects import DomainRef, SecurityLabel, TypedParam

calls: Calls[QemuHost] = Calls()

_SECRET: Final = {
    "sev-secret-header": ("packet-header", "string"),
    "sev-secret": ("secret", "string"),
    "sev-secret-set-address": ("gpa", "ullong"),
}


@calls.handles(key="dom", lane="query")
async def domain_get_launch_security_info(host: QemuHost, dom: DomainRef, flags: int) -> list[TypedParam]:
    """How far a guest with encrypted memory can be trusted; nothing of other guests.

    Raises NoSuchDomain, DomainStateError when it is off.
    """
    check_flags(flags, STRING_OKAY, "qemuDomainGetLaunchSecurityInfo")
    guest = host.guest(dom)
    definition = guest.live if guest.is_active else guest.config
    security = definition.launch_security
    if security is None or security.type != "sev":
        return []
    guest.need_run()
    facts, measure = await guest.ask_all([("query-sev", None), ("query-sev-launch-measure", None)])
    return [
        TypedParam.of_string("sev-measurement", str(measure["data"])),
        TypedParam.of_uint("sev-api-major", int(facts["api-major"])),
        TypedParam.of_uint("sev-api-minor", int(facts["api-minor"])),
        TypedParam.of_uint("sev-build-id", int(facts["build-id"])),
        TypedParam.of_uint("sev-policy", int(facts["policy"])),
    ]


@calls.handles(key="dom")
async def domain_set_launch_security_state(
    host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int
) -> None:
    """Gives a guest with encrypted memory a secret before it runs.

    Raises NoSuchDomain, DomainStateError, OperationUnsupported for other guests, InvalidArguments.
    """
    check_flags(flags, 0, "qemuDomainSetLaunchSecurityState")
    given = read_parameters(params, {name: kind for name, (_, kind) in _SECRET.items()})
    guest = host.guest(dom)
    definition = guest.live if guest.is_active else guest.config
    security = definition.launch_security
    if security is None or security.type != "sev":
        raise OperationUnsupported("setting a launch secret is only supported in SEV-enabled domains")
    if "sev-secret-header" not in given or "sev-secret" not in given:
        raise InvalidArguments("Both 'sev-secret' and 'sev-secret-header' are required")
    guest.need_run()
    if (await guest.ask("query-status")).get("running"):
        raise DomainStateError("domain must be in a paused state")
    await guest.ask("sev-inject-launch-secret", {_SECRET[name][0]: value for name, value in given.items()})


@calls.handles()
def domain_get_security_label_list(host: QemuHost, dom: DomainRef) -> dict[str, Any]:
    """The labels of a running guest, one for each security driver: one that does nothing, and that of owners.

    Raises NoSuchDomain.
    """
    guest = host.guest(dom)
    if not guest.is_active:
        return {"labels": [], "ret": 0}
    labels = [SecurityLabel(b"\0", 0)]
    own = label_of(guest.live)
    if os.geteuid() == 0:
        labels.append(SecurityLabel((own.label or "" if own is not None else "").encode() + b"\0", 0))
    return {"labels": labels, "ret": len(labels)}


@calls.handles()
def domain_is_updated(host: QemuHost, dom: DomainRef) -> int:
    """Whether a running guest's configuration was changed since: never told, as the hypervisor's own driver does.

    Raises NoSuchDomain.
    """
    host.guest(dom)
    return 0
