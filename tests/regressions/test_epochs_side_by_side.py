"""Roles that come in at the same moment: each granted epoch is on disk, also when several are written at once."""

from __future__ import annotations

import asyncio

import pytest

from broker.epochs import load_epochs
from broker.peer import Peer
from tests.process.broker_process import ROLES, broker_house

ROUNDS = 5


@pytest.mark.process
@pytest.mark.timeout(60)
async def test_no_granted_epoch_is_missing_from_the_disk() -> None:
    with broker_house() as house:
        for _ in range(ROUNDS):
            peers = await asyncio.gather(*(Peer.connect_role(house.paths, role) for role in ROLES))
            written = load_epochs(house.paths.broker_state)
            for peer in peers:
                assert written[peer.name].epoch >= peer.epoch, (peer.name, written)
            await asyncio.gather(*(peer.aclose() for peer in peers))
