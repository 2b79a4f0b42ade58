"""The host, the driver, and the networks and pools it has."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from client.command.running import Session, speaks

app = typer.Typer()

AllOption = Annotated[bool, typer.Option("--all", help="Inactive ones as well.")]
InactiveOption = Annotated[bool, typer.Option("--inactive", help="Only inactive ones.")]


def _selection(all_: bool, inactive: bool) -> int:
    # INACTIVE is 1 and ACTIVE is 2 in the list flags of networks and of pools alike
    return 0 if all_ else 1 if inactive else 2


@app.command()
@speaks
async def nodeinfo(session: Session) -> None:
    """Show the processors and the memory of the host."""
    from client.command.output import facts

    info = await (await session.connect()).node_info()
    words = facts(
        [
            ("CPU model", info.model),
            ("CPU(s)", info.cpus),
            ("CPU frequency", f"{info.mhz} MHz"),
            ("CPU socket(s)", info.sockets),
            ("Core(s) per socket", info.cores),
            ("Thread(s) per core", info.threads),
            ("NUMA cell(s)", info.nodes),
            ("Memory size", f"{info.memory_kib} KiB"),
        ]
    )
    session.show(words, info)


@app.command()
@speaks
async def capabilities(session: Session) -> None:
    """Print what host and driver can do, as XML."""
    xml = await (await session.connect()).capabilities()
    session.show(xml if xml.endswith("\n") else xml + "\n", {"xml": xml})


@app.command()
@speaks
async def version(session: Session) -> None:
    """Show the versions of Virtroupe, of the API and of the hypervisor."""
    from importlib.metadata import version as installed

    from client.command.output import facts

    conn = await session.connect()
    api, hypervisor, kind = await asyncio.gather(conn.api_version(), conn.version(), conn.hypervisor())
    own = installed("virtroupe")
    words = facts([("Virtroupe", own), ("API", f"libvirt {api}"), ("Hypervisor", f"{kind} {hypervisor}")])
    told = {"virtroupe": own, "api": str(api), "hypervisor": str(hypervisor), "type": kind}
    session.show(words, told)


@app.command()
@speaks
async def uri(session: Session) -> None:
    """Print the URI of the driver that is talked to."""
    told = (await session.connect()).uri
    session.show(f"{told}\n", {"uri": told})


@app.command()
@speaks
async def hostname(session: Session) -> None:
    """Print the host's name."""
    name = await (await session.connect()).hostname()
    session.show(f"{name}\n", {"hostname": name})


@app.command("net-list")
@speaks
async def net_list(session: Session, all_: AllOption = False, inactive: InactiveOption = False) -> None:
    """List virtual networks."""
    from client.command.output import table

    networks = await (await session.connect()).list_networks(_selection(all_, inactive))
    states = await asyncio.gather(
        *(asyncio.gather(net.is_active(), net.autostart(), net.is_persistent()) for net in networks)
    )
    rows = [
        [net.name, _active(active), _yes(autostart), _yes(persistent)]
        for net, (active, autostart, persistent) in zip(networks, states, strict=True)
    ]
    told = [
        {"name": net.name, "uuid": net.uuid, "active": active, "autostart": autostart, "persistent": persistent}
        for net, (active, autostart, persistent) in zip(networks, states, strict=True)
    ]
    session.show(table(["Name", "State", "Autostart", "Persistent"], rows), told)


@app.command("pool-list")
@speaks
async def pool_list(
    session: Session,
    all_: AllOption = False,
    inactive: InactiveOption = False,
    details: Annotated[bool, typer.Option("--details", help="And sizes.")] = False,
) -> None:
    """List storage pools."""
    from client.command.output import size, table

    pools = await (await session.connect()).list_storage_pools(_selection(all_, inactive))
    states = await asyncio.gather(
        *(asyncio.gather(pool.info(), pool.autostart(), pool.is_persistent()) for pool in pools)
    )
    told = []
    rows = []
    for pool, (info, autostart, persistent) in zip(pools, states, strict=True):
        state = info.state.name.lower()
        shown = [pool.name, "active" if state == "running" else state, _yes(autostart)]
        sizes = [size(part // 1024) for part in (info.capacity, info.allocation, info.available)]
        rows.append([*shown, _yes(persistent), *sizes] if details else shown)
        told.append(
            {
                "name": pool.name,
                "uuid": pool.uuid,
                "state": info.state,
                "autostart": autostart,
                "persistent": persistent,
                "capacity": info.capacity,
                "allocation": info.allocation,
                "available": info.available,
            }
        )
    headings = ["Name", "State", "Autostart"]
    if details:
        headings += ["Persistent", "Capacity", "Allocation", "Available"]
    session.show(table(headings, rows), told)


def _active(active: bool) -> str:
    return "active" if active else "inactive"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
