"""Processors of guests on real QEMU: what depends on the host is a named model while the guest runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.real.test_qemu_guests import Subject, driver

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


async def test_a_host_model_is_a_named_one_while_the_guest_runs(root: Path) -> None:
    guest = Subject(root, "", boots=False, top="<cpu mode='host-model'/>")
    async with driver(root) as house, guest.running(house):
        live = await guest.xml_desc(house)
        model = re.search(r"<cpu mode='custom' match='exact'[^>]*>\s*<model fallback='forbid'>([^<]+)</model>", live)
        assert model is not None, live
        assert "<cpu mode='host-model'" in await guest.xml_desc(house, 2)


async def test_a_feature_is_taken_from_a_model(root: Path) -> None:
    top = "<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='disable' name='svm'/></cpu>"
    guest = Subject(root, "", boots=False, top=top)
    async with driver(root) as house, guest.running(house):
        assert "<feature policy='disable' name='svm'/>" in await guest.xml_desc(house)
