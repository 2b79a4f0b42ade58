"""The access policy by tag, as a libvirt client meets it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conf.domain.tags import NAMESPACE
from schema.enums.domain import DomainMetadataType
from schema.errors import NoDomainMetadata, NoSuchDomain
from schema.objects import DomainRef, DomainSnapshotRef, DomainStatsRecord
from tests.fakes.rpc_client import callback_id
from tests.process.gateway_in_loop import House
from tests.process.test_gateway_access import denied, log_of, policed
from tests.unit.gateway.records import uuid_of

POLICY = """
[tags]
house = ["name:h"]

[[rule]]
who = ["user:alice"]
what = ["connect:*"]

[[rule]]
who = ["user:alice"]
what = ["domain:stop"]
which = ["tag:prod"]
refuse = true

[[rule]]
who = ["user:alice"]
what = ["domain:*"]
which = ["tag:prod", "tag:web", "tag:house"]
"""


def metadata(*tags: str) -> str:
    return "<tags>" + "".join(f"<tag>{tag}</tag>" for tag in tags) + "</tags>"


def document(name: str, *tags: str) -> str:
    inside = "".join(f"<v:tag>{tag}</v:tag>" for tag in tags)
    uuid = "".join(f"{byte:02x}" for byte in uuid_of(name))
    return (
        f"<domain><name>{name}</name><uuid>{uuid}</uuid>"
        f"<metadata><v:tags xmlns:v='{NAMESPACE}'>{inside}</v:tags></metadata></domain>"
    )


class Driver:
    """Guests with tags, which calls may change."""

    def __init__(self, house: House) -> None:
        self.house = house
        peer = house.peer
        peer.change("h", id=-1)
        peer.change("p", id=7, state=1, tags=["prod"])
        peer.change("w", id=8, state=1, tags=["web"])
        peer.answers["domain_get_metadata"] = self.get_metadata
        peer.answers["domain_set_metadata"] = self.set_metadata
        peer.answers["domain_lookup_by_uuid"] = self.lookup
        peer.answers["domain_get_state"] = lambda args: {"state": 1, "reason": 0}
        for name in ("domain_rename", "domain_revert_to_snapshot", "domain_define_xml", "domain_create_xml"):
            peer.answers[name] = lambda args: {"retcode": 0} if hasattr(args, "new_name") else self.made(args)
        self.moment = document("w", "web")
        peer.answers["domain_snapshot_get_xml_desc"] = lambda args: {
            "xml": f"<domainsnapshot>{self.moment}</domainsnapshot>"
        }

    def made(self, args: Any) -> Any:
        return None if hasattr(args, "snap") else {"dom": self.house.peer.ref("w")}

    def name_of(self, uuid: bytes) -> str:
        for name in self.house.peer.guests:
            if uuid_of(name) == uuid:
                return name
        raise NoSuchDomain("no domain")

    def lookup(self, args: Any) -> Any:
        return {"dom": self.house.peer.ref(self.name_of(args.uuid))}

    def get_metadata(self, args: Any) -> Any:
        tags = self.house.peer.guests[self.name_of(args.dom.uuid)].get("tags", [])
        if not tags or args.uri != NAMESPACE:
            raise NoDomainMetadata("Requested metadata element is not present")
        return {"metadata": metadata(*tags)}

    def set_metadata(self, args: Any) -> None:
        tags = [] if args.metadata is None else [t.split("<")[0] for t in args.metadata.split("<tag>")[1:]]
        self.house.peer.change(self.name_of(args.dom.uuid), tags=tags)


@pytest.fixture(params=[False, True], ids=["from the driver", "from the read model"])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Driver]:
    async with policed(tmp_path, POLICY, is_cached=request.param) as house:
        yield Driver(house)


def tagging(ref: DomainRef, *tags: str, uri: str = NAMESPACE) -> dict[str, Any]:
    element = metadata(*tags) if tags else None
    return {
        "dom": ref,
        "type": int(DomainMetadataType.ELEMENT),
        "metadata": element,
        "key": "v",
        "uri": uri,
        "flags": 0,
    }


async def test_tags_decide_what_is_allowed(driver: Driver) -> None:
    peer = driver.house.peer
    async with await driver.house.opened() as client:
        for name in ("h", "p", "w"):
            await client.call("domain_create", dom=peer.ref(name))
        await denied(client.call("domain_create", dom=peer.ref("a")))
        await client.call("domain_destroy", dom=peer.ref("w"))
        await denied(client.call("domain_destroy", dom=peer.ref("p")))
        assert "permission=domain:stop call=domain_destroy name=p" in (told := log_of(driver.house))
        assert "tags=prod" in told
        await denied(client.call("domain_lookup_by_name", name="a"))
        assert (await client.call("domain_lookup_by_name", name="w")).dom.name == "w"


async def test_lists_and_statistics_hold_what_is_tagged(driver: Driver) -> None:
    peer = driver.house.peer
    records = [DomainStatsRecord(peer.ref(name), []) for name in sorted(peer.guests)]
    peer.answers["connect_get_all_domain_stats"] = lambda args: {"retStats": records}
    async with await driver.house.opened() as client:
        listed = await client.call("connect_list_all_domains", need_results=1, flags=0)
        assert sorted(ref.name for ref in listed.domains) == ["h", "p", "w"]
        stats = await client.call("connect_get_all_domain_stats", doms=[], stats=0, flags=0)
        assert [item.dom.name for item in stats.retStats] == ["h", "p", "w"]


async def test_another_tag_counts_from_the_next_call_on(driver: Driver) -> None:
    peer = driver.house.peer
    async with await driver.house.opened() as client:
        assert (await client.call("domain_get_state", dom=peer.ref("w"), flags=0)).state == 1
        peer.publishing = False  # the event is under way when the reply comes
        await client.call("domain_set_metadata", **tagging(peer.ref("w"), "prod"))
        await denied(client.call("domain_destroy", dom=peer.ref("w")))
        peer.release()
        await denied(client.call("domain_destroy", dom=peer.ref("w")))
        await client.call("domain_set_metadata", **tagging(peer.ref("w")))
        await denied(client.call("domain_get_state", dom=peer.ref("w"), flags=0))
        listed = await client.call("connect_list_all_domains", need_results=1, flags=0)
        assert sorted(ref.name for ref in listed.domains) == ["h", "p"]


async def test_nobody_allows_himself_more_by_a_tag(driver: Driver) -> None:
    """By metadata, a definition, a snapshot or a name: what was not allowed on the guest is not gained."""
    peer = driver.house.peer
    p, snap = peer.ref("p"), DomainSnapshotRef("s", peer.ref("p"))
    async with await driver.house.opened() as client:
        await denied(client.call("domain_set_metadata", **tagging(p, "web")))
        await denied(
            client.call("domain_set_metadata", **tagging(peer.ref("h"), "h", uri="urn:x") | {"dom": peer.ref("a")})
        )
        await denied(client.call("domain_define_xml", xml=document("p", "web")))
        await denied(client.call("domain_define_xml", xml=document("a", "web")))
        await denied(client.call("domain_create_xml", xml_desc=document("p", "web"), flags=0))
        await denied(client.call("domain_revert_to_snapshot", snap=snap, flags=0))
        changes = ("domain_set_metadata", "domain_define_xml", "domain_create_xml", "domain_revert_to_snapshot")
        assert not set(changes) & set(driver.house.names_asked())
        await client.call("domain_set_metadata", **tagging(p, "prod", "web"))
        await client.call("domain_define_xml", xml=document("p", "prod"))
        await client.call("domain_define_xml", xml=document("new", "web"))
        await denied(client.call("domain_define_xml", xml=document("new2")))
        driver.moment = document("p", "prod")
        await client.call("domain_revert_to_snapshot", snap=snap, flags=0)
        await client.call("domain_rename", dom=peer.ref("w"), new_name="other", flags=0)
        await client.call("domain_set_metadata", **tagging(p))  # less is no gain
        await denied(client.call("domain_set_metadata", **tagging(p, "web")))


async def test_a_name_with_which_more_is_allowed_is_not_taken(tmp_path: Path) -> None:
    policy = POLICY.replace('"tag:prod", "tag:web", "tag:house"', '"name:w"').replace(
        'what = ["domain:stop"]', 'what = ["domain:reset"]'
    )
    rule = '[[rule]]\nwho=["*"]\nwhat=["domain:write", "domain:save"]\nwhich=["name:p"]\n'
    async with policed(tmp_path, policy + rule, is_cached=True) as house:
        driver = Driver(house)
        async with await house.opened() as client:
            await denied(client.call("domain_rename", dom=house.peer.ref("p"), new_name="w", flags=0))
            assert "domain_rename" not in house.names_asked()
            await client.call("domain_rename", dom=house.peer.ref("p"), new_name="q", flags=0)
        assert driver.house is house


async def test_events_are_told_by_the_tags_of_their_guests(driver: Driver) -> None:
    peer = driver.house.peer
    async with await driver.house.opened() as client:
        every = await client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        peer.change("a", (3, 0), state=3)
        peer.change("w", (3, 0), tags=["other"])
        peer.change("a", (3, 1), tags=["web"])
        peer.change("p", (1, 0), gone=True)
        for _ in range(2):
            assert callback_id(await client.event()) == every.callbackID
        with pytest.raises(TimeoutError):
            await client.packet(0.1)
