"""Starting a guest with open files, which the guests of this driver have no use for."""

from __future__ import annotations

from actors.runtime.calls import Calls
from actors.test import definitions, lifecycle
from actors.test.host import TestHost
from schema.objects import DomainRef

calls: Calls[TestHost] = Calls()


@calls.handles(key="dom")
async def domain_create_with_files(host: TestHost, dom: DomainRef, flags: int) -> DomainRef:
    """Starts a guest from its configuration. Raises what `domain_create_with_flags` raises."""
    return await lifecycle.domain_create_with_flags(host, dom, flags)


@calls.handles()
async def domain_create_xml_with_files(host: TestHost, xml_desc: str, flags: int) -> DomainRef:
    """Starts a guest with this definition. Raises what `domain_create_xml` raises."""
    return await definitions.domain_create_xml(host, xml_desc, flags)
