from __future__ import annotations

from pathlib import Path

import pytest

from actors.test.cpu_models import MAP_FOLDER
from schema.errors import ErrorDomain, OperationFailed, UnsupportedCall, XmlError
from tests.unit.test_driver.house import open_house

ARM = "<cpu><arch>aarch64</arch><model>{}</model></cpu>"


async def test_processors_without_a_table_have_in_common_what_they_are(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        found = await house.call("connect_baseline_cpu", xmlCPUs=[ARM.format("max")], flags=0)
        assert found.cpu == "<cpu mode='custom' match='exact'>\n  <model fallback='allow'>max</model>\n</cpu>\n"
        with pytest.raises(OperationFailed, match="incompatible"):
            await house.call("connect_baseline_cpu", xmlCPUs=[ARM.format("max"), ARM.format("cortex-a57")], flags=0)
        with pytest.raises(UnsupportedCall, match="nosuch"):
            await house.call("connect_baseline_cpu", xmlCPUs=[ARM.format("max").replace("aarch64", "nosuch")], flags=0)
        with pytest.raises(XmlError, match="Missing CPU architecture") as caught:
            await house.call("connect_baseline_cpu", xmlCPUs=["<cpu/>"], flags=0)
        assert caught.value.domain == ErrorDomain.CPU


async def test_processors_of_the_pc_have_features_in_common(tmp_path: Path) -> None:
    if not MAP_FOLDER.is_dir():
        pytest.skip("libvirt's tables of processors are not installed")
    cpu = "<cpu><arch>x86_64</arch><model>{}</model><vendor>Intel</vendor></cpu>"
    async with open_house(tmp_path) as house:
        cpus = [cpu.format("core2duo"), cpu.format("Nehalem")]
        found = await house.call("connect_baseline_cpu", xmlCPUs=cpus, flags=0)
        assert "<vendor>Intel</vendor>" in found.cpu
        assert "name='nx'" in found.cpu
        wide = await house.call("connect_baseline_cpu", xmlCPUs=cpus, flags=1)
        assert "<feature policy='require' name='sse2'/>" in wide.cpu
