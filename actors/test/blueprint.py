"""What a scope begins with: every object of it, ready to be written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from actors.test import defaults, rules
from actors.test.described import device_record, interface_record, network_record, pool_record
from actors.test.kinds import DEVICE, INTERFACE, NETWORK, POOL, Kind, Record
from actors.test.records import (
    DeviceRecord,
    DomainRecord,
    InterfaceRecord,
    NetworkRecord,
    NodeFacts,
    PoolRecord,
)
from actors.test.states import is_active
from conf.domain.domain import Domain
from conf.host_interface.documents import parse_host_interface
from conf.network.documents import parse_network
from conf.node_device.documents import parse_node_device
from conf.storage.documents import parse_pool
from schema.enums.domain_state import DomainState


@dataclass(slots=True)
class Blueprint:
    """The objects of a scope before anybody changes them."""

    node: NodeFacts = field(default_factory=NodeFacts)
    domains: list[DomainRecord] = field(default_factory=list)
    networks: list[NetworkRecord] = field(default_factory=list)
    interfaces: list[InterfaceRecord] = field(default_factory=list)
    pools: list[PoolRecord] = field(default_factory=list)
    devices: list[DeviceRecord] = field(default_factory=list)

    def others(self) -> Iterator[tuple[Kind, Record]]:
        """Everything but guests."""
        shelves: tuple[tuple[Kind, Sequence[Record]], ...] = (
            (NETWORK, self.networks),
            (INTERFACE, self.interfaces),
            (POOL, self.pools),
            (DEVICE, self.devices),
        )
        return ((kind, record) for kind, records in shelves for record in records)

    def add_domain(
        self,
        definition: Domain,
        *,
        state: DomainState = DomainState.RUNNING,
        transient: bool = False,
        managed_save: bool = False,
    ) -> None:
        """A guest that was there before; its state has no reason that anybody knows."""
        active = is_active(state)
        id = 1 + max((record.last_id for record in self.domains), default=0) if active else -1
        live = rules.started(definition)
        self.domains.append(
            DomainRecord(
                uuid=str(definition.uuid),
                name=definition.name,
                facts=rules.facts_of(definition),
                id=id,
                last_id=max(id, 0),
                state=int(state),
                reason=0,
                since=time.time(),
                config=None if transient else rules.write_config(definition),
                live=rules.write_live(live, id) if active else None,
                managed_save=managed_save,
            )
        )


def default_blueprint() -> Blueprint:
    """What `test:///default` begins with."""
    blueprint = Blueprint()
    blueprint.add_domain(rules.parse_definition(defaults.DOMAIN))
    blueprint.networks.append(network_record(parse_network(defaults.NETWORK), active=True))
    blueprint.interfaces.append(interface_record(parse_host_interface(defaults.INTERFACE), active=True))
    blueprint.pools.append(pool_record(parse_pool(defaults.POOL), active=True))
    blueprint.devices += [device_record(parse_node_device(xml)) for xml in defaults.DEVICES]
    return blueprint
