"""The guest agent's link over a socket pair: late answers, silence, nonsense, and its end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.qemu.agent.addresses import read_interfaces
from actors.qemu.agent.link import AgentLink, open_agent
from actors.qemu.agent.protocol import LINE_MAX, AgentSession, Answer, Refusal, RemoteAgentError, encode_command
from schema.errors import AgentUnresponsive, InternalError

Reply = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[None]]
BLOCK = -2


def say(writer: asyncio.StreamWriter, value: Any) -> None:
    writer.write(json.dumps(value).encode() + b"\n")


async def plain(asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """What an agent does that has no fault."""
    if asked["execute"] == "guest-sync":
        say(writer, {"return": asked["arguments"]["id"]})
    else:
        say(writer, {"return": {"did": asked["execute"]}})


@asynccontextmanager
async def agent(reply: Reply = plain) -> AsyncIterator[tuple[AgentLink, list[dict[str, Any]], asyncio.StreamWriter]]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    heard: list[dict[str, Any]] = []

    async def serve() -> None:
        while line := await reader.readline():
            heard.append(json.loads(line))
            await reply(heard[-1], writer)

    link = await open_agent(ours)
    task = asyncio.ensure_future(serve())
    try:
        yield link, heard, writer
    finally:
        link.close()
        task.cancel()
        await asyncio.wait({task})
        writer.close()


async def test_each_command_comes_after_a_number_of_its_own() -> None:
    async with agent() as (link, heard, _):
        assert (await link.call("guest-ping", timeout=5)).value == {"did": "guest-ping"}
        assert (await link.call("guest-ping", {"a": 1}, timeout=5)).whole == {"return": {"did": "guest-ping"}}
        numbers = [one["arguments"]["id"] for one in heard if one["execute"] == "guest-sync"]
        assert len(numbers) == 2 and numbers[0] < numbers[1]
        assert heard[1] == {"execute": "guest-ping"}
        assert heard[3] == {"execute": "guest-ping", "arguments": {"a": 1}}


async def test_late_answers_of_given_up_commands_are_dropped() -> None:
    waiting: list[dict[str, Any]] = []

    async def slow(asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if asked["execute"] == "guest-slow":
            waiting.append(asked)
            return
        if asked["execute"] == "guest-sync" and waiting:
            say(writer, {"return": "the late one"})  # it comes while the next caller synchronises
            waiting.clear()
        await plain(asked, writer)

    async with agent(slow) as (link, _, _writer):
        with pytest.raises(AgentUnresponsive, match="didn't respond to command within '0' seconds"):
            await _slow(link)
        assert (await link.call("guest-ping", timeout=5)).value == {"did": "guest-ping"}


async def _slow(link: AgentLink) -> None:
    # the synchronisation has its seconds, the command none
    await link._sync(5)
    await link._exchange("guest-slow", encode_command("guest-slow"), 0)


async def test_a_silent_agent_is_told_as_unresponsive() -> None:
    async def silent(asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        return None

    async with agent(silent) as (link, heard, _):
        with pytest.raises(AgentUnresponsive, match="didn't respond to synchronization within '0' seconds"):
            await link.call("guest-ping", timeout=0)
        await asyncio.sleep(0)
        assert [one["execute"] for one in heard] in ([], ["guest-sync"])


async def test_a_refusal_carries_the_agents_reason() -> None:
    async def refuse(asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if asked["execute"] == "guest-sync":
            await plain(asked, writer)
        else:
            say(writer, {"error": {"class": "CommandNotFound", "desc": "no such thing"}})

    async with agent(refuse) as (link, _, _writer):
        with pytest.raises(InternalError, match="unable to execute QEMU agent command 'guest-x': no such thing"):
            await link.call("guest-x", timeout=5)


async def test_who_waits_hears_of_the_end() -> None:
    async def leave(asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if asked["execute"] == "guest-sync":
            await plain(asked, writer)
        else:
            writer.close()

    async with agent(leave) as (link, _, _writer):
        with pytest.raises(AgentUnresponsive, match="Guest agent disappeared while executing command"):
            await link.call("guest-ping", timeout=BLOCK)
        assert not link.is_open
        with pytest.raises(AgentUnresponsive, match="not available"):
            await link.call("guest-ping", timeout=BLOCK)


async def test_a_refusal_of_what_is_not_answered_is_found_later() -> None:
    async with agent() as (link, _, writer):
        await link.send("guest-shutdown", {"mode": "powerdown"}, timeout=5)
        say(writer, {"error": {"class": "GenericError", "desc": "not today"}})
        found = None
        for _ in range(200):
            found = link.refusal("guest-shutdown")
            if found is not None:
                break
            await asyncio.sleep(0.01)
        assert found is not None and "not today" in found.message


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"7\n",
        b'{"event":"x"}\n',
        b'{"return":\n',
        b"\n\n",
        b'{"error":"text"}\n',
        b"[" * 5000 + b"\n",
    ],
)
def test_nonsense_is_no_message(junk: bytes) -> None:
    session = AgentSession()
    assert session.receive(junk + b'{"return":5}\n') == [Answer(5, {"return": 5})]


def test_messages_come_in_pieces_and_with_a_mark_before_them() -> None:
    session = AgentSession()
    assert session.receive(b'\xff{"ret') == []
    assert session.receive(b'urn":1}\r\n{"error":{"class":"GenericError"}}\n') == [
        Answer(1, {"return": 1}),
        Refusal("GenericError", "unknown QEMU command error"),
    ]


def test_an_endless_line_is_refused() -> None:
    session = AgentSession()
    with pytest.raises(RemoteAgentError, match="line of more than"):
        for _ in range(LINE_MAX // (1 << 20) + 2):
            session.receive(b"x" * (1 << 20))


def test_names_of_one_interface_are_told_together() -> None:
    address = {"ip-address-type": "ipv4", "ip-address": "10.0.0.1", "prefix": 8}
    found = read_interfaces(
        [
            {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "ip-addresses": [address]},
            {"name": "eth0:1", "ip-addresses": [{**address, "ip-address": "10.0.0.2"}]},
            {"name": "tun0"},
        ]
    )
    assert [(one.name, one.hwaddr, [a.addr for a in one.addrs]) for one in found] == [
        ("eth0", "52:54:00:00:00:01", ["10.0.0.1", "10.0.0.2"]),
        ("tun0", None, []),
    ]
    with pytest.raises(InternalError):
        read_interfaces({"not": "a list"})
