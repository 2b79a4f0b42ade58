"""Who is still connected of those that guests end with, as broker and gateway tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.qemu.binding import RETURN_S, gone_of
from actors.qemu.host import QemuHost
from schema.errors import OperationFailed

NATIVE, GATEWAY = b"n" * 16, b"g" * 16
THROUGH = f"{GATEWAY.hex()}:7"


@dataclass
class Asked:
    """A runtime that answers for broker and gateway."""

    callers: set[bytes]
    clients: set[int]
    uptime_s: float = RETURN_S + 1
    questions: list[str] = field(default_factory=list)

    async def ask(self, destination: str, procedure: str, *, deadline_s: float, **args: list[Any]) -> Any:
        self.questions.append(procedure)
        if procedure == "broker_present":
            return SimpleNamespace(
                callers=[one for one in args["callers"] if one in self.callers], uptime_s=self.uptime_s
            )
        return SimpleNamespace(clients=[one for one in args["clients"] if one in self.clients])


def host_of(asked: Asked) -> QemuHost:
    return cast("QemuHost", SimpleNamespace(runtime=asked))


@pytest.mark.parametrize(
    ("callers", "clients", "gone"),
    [
        ({NATIVE, GATEWAY}, {7}, set()),
        ({NATIVE, GATEWAY}, {8}, {THROUGH}),
        ({GATEWAY}, {7}, {NATIVE.hex()}),
        ({NATIVE}, {7}, {THROUGH}),  # a gateway's connections end with it, and the next one counts anew
        (set(), set(), {NATIVE.hex(), THROUGH}),
    ],
)
async def test_a_connection_is_gone_when_its_caller_is(callers: set[bytes], clients: set[int], gone: set[str]) -> None:
    assert await gone_of(host_of(Asked(callers, clients)), [NATIVE.hex(), THROUGH]) == gone


async def test_a_broker_that_is_new_may_not_have_everybody_yet() -> None:
    asked = Asked({GATEWAY}, set(), uptime_s=RETURN_S - 1)
    assert await gone_of(host_of(asked), [NATIVE.hex()]) == set()
    # what the gateway itself says is sure
    assert await gone_of(host_of(asked), [NATIVE.hex(), THROUGH]) == {THROUGH}


async def test_a_gateway_is_not_asked_for_native_clients() -> None:
    asked = Asked({NATIVE}, set())
    await gone_of(host_of(asked), [NATIVE.hex()])
    assert asked.questions == ["broker_present"]


async def test_who_cannot_be_asked_decides_nothing() -> None:
    class Silent(Asked):
        async def ask(self, *args: Any, **more: Any) -> Any:
            raise OperationFailed("no answer")

    with pytest.raises(OperationFailed):
        await gone_of(host_of(Silent(set(), set())), [NATIVE.hex()])
