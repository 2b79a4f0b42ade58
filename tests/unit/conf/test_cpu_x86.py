"""Models and features of PC processors, by a small table of our own."""

from __future__ import annotations

import pytest

from conf.cpu.cpu import CpuCheck, CpuFeature, CpuMatch, CpuMode, CpuModel, FeaturePolicy, GuestCpu
from conf.cpu.x86 import (
    Verdict,
    X86Data,
    baseline,
    compare,
    data_of_properties,
    decode,
    expand,
    parse_cpu_data,
    register_of,
    signature_of,
    translate,
    update,
)
from conf.cpu.x86_live import bits_of_words, update_live
from conf.cpu.x86_map import X86Map, parse_x86_map
from schema.errors import ConfigUnsupported, InternalError, OperationFailed

FILES = {
    "index.xml": "<cpus><arch name='x86'><include filename='all.xml'/></arch><arch name='arm'/></cpus>",
    "all.xml": """<cpus>
      <vendor name='Intel' string='GenuineIntel'/><vendor name='AMD' string='AuthenticAMD'/>
      <feature name='fpu'><cpuid eax_in='0x01' edx='0x1'/></feature>
      <feature name='sse'><cpuid eax_in='0x01' edx='0x2'/></feature>
      <feature name='avx'><cpuid eax_in='0x07' ecx_in='0' ebx='0x1'/></feature>
      <feature name='invtsc' migratable='no'><cpuid eax_in='0x80000007' edx='0x100'/></feature>
      <feature name='mds_no'><alias name='mds-no' source='qemu'/><msr index='0x10a' eax='0x20' edx='0'/></feature>
      <feature name='hle'><cpuid eax_in='0x07' ecx_in='0' ebx='0x10'/></feature>
      <model name='old'><decode host='on' guest='on'/><feature name='fpu'/></model>
      <model name='new'><decode host='on' guest='on'/><signature family='6' model='60' stepping='0-3'/>
        <vendor name='Intel'/><feature name='fpu'/><feature name='sse'/><feature name='avx'/></model>
      <model name='never'><decode host='off' guest='off'/><feature name='fpu'/><feature name='avx'/></model>
    </cpus>""",
}


@pytest.fixture
def table() -> X86Map:
    return parse_x86_map(lambda name: FILES[name].encode())


def features(cpu: GuestCpu) -> dict[str, FeaturePolicy | None]:
    return {one.name: one.policy for one in cpu.features}


def named(name: str, *require: str, vendor: str | None = None) -> GuestCpu:
    wanted = [CpuFeature(name=one, policy=FeaturePolicy.REQUIRE) for one in require]
    return GuestCpu(model=CpuModel(name=name), features=wanted, vendor=vendor)


def test_registers_are_read_with_vendor_and_signature(table: X86Map) -> None:
    data = parse_cpu_data(
        """<cpudata arch='x86'>
        <cpuid eax_in='0' ecx_in='0' eax='0xd' ebx='0x756e6547' ecx='0x6c65746e' edx='0x49656e69'/>
        <cpuid eax_in='1' ecx_in='0' eax='0x000306c3' ebx='0' ecx='0' edx='0x3'/>
        <msr index='0x10a' edx='0' eax='0x20'/></cpudata>""",
        table,
    )
    assert data.vendor is not None and data.vendor.name == "Intel"
    assert data.signature == (6, 60, 3)
    assert list(table.features_in(data.bits)) == ["fpu", "sse", "mds_no"]


@pytest.mark.parametrize("signature", [(6, 60, 3), (15, 6, 8), (23, 49, 0), (5, 4, 3)])
def test_a_signature_fits_its_register(signature: tuple[int, int, int]) -> None:
    assert signature_of(register_of(signature)) == signature


def test_the_model_with_the_fewest_differences_is_taken(table: X86Map) -> None:
    data = data_of_properties({"fpu": True, "sse": True, "avx": True, "mds-no": True, "unheard-of": True}, table)
    cpu = decode(data, table)
    assert cpu.model is not None and cpu.model.name == "new"
    assert features(cpu) == {"mds_no": FeaturePolicy.REQUIRE}


def test_a_model_with_a_feature_too_many_is_no_host(table: X86Map) -> None:
    data = X86Data(table.need_feature("fpu").bits | table.need_feature("sse").bits)
    cpu = decode(data, table, for_host=True)
    assert cpu.model is not None and cpu.model.name == "old"
    assert features(cpu) == {"sse": None}


def test_only_models_that_the_emulator_knows_are_taken(table: X86Map) -> None:
    data = X86Data(table.need_model("new").bits)
    cpu = decode(data, table, {"old": ()})
    assert cpu.model is not None and cpu.model.name == "old"
    with pytest.raises(InternalError, match="Cannot find suitable CPU model"):
        decode(data, table, {"stranger": ()})


def test_what_keeps_a_model_from_being_used_is_disabled(table: X86Map) -> None:
    data = X86Data(table.need_model("new").bits)
    assert features(decode(data, table, {"new": ("hle",)})) == {"hle": FeaturePolicy.DISABLE}


def test_transactions_that_do_not_work_are_not_told(table: X86Map) -> None:
    vendor = table.vendors["Intel"]
    bits = table.need_model("new").bits | table.need_feature("hle").bits
    assert not decode(X86Data(bits, vendor, (6, 60, 3)), table).features
    assert features(decode(X86Data(bits, vendor, (6, 61, 3)), table)) == {"hle": FeaturePolicy.REQUIRE}


def test_hosts_are_compared_with_what_is_wanted(table: X86Map) -> None:
    host = named("new", vendor="Intel")
    assert compare(host, named("new"), table)[0] is Verdict.IDENTICAL
    assert compare(host, named("old"), table)[0] is Verdict.SUPERSET
    strict = named("old")
    strict.match = CpuMatch.STRICT
    assert compare(host, strict, table)[0] is Verdict.INCOMPATIBLE
    verdict, why = compare(host, named("old", "hle"), table)
    assert verdict is Verdict.INCOMPATIBLE and why.endswith("hle")
    assert compare(host, named("old", vendor="AMD"), table)[0] is Verdict.INCOMPATIBLE
    forbidding = named("old")
    forbidding.features.append(CpuFeature(name="avx", policy=FeaturePolicy.FORBID))
    assert compare(host, forbidding, table)[0] is Verdict.INCOMPATIBLE


def test_host_model_becomes_the_hosts_with_the_users_changes(table: X86Map) -> None:
    guest = GuestCpu(mode=CpuMode.HOST_MODEL, features=[CpuFeature(name="avx", policy=FeaturePolicy.DISABLE)])
    update(guest, named("new", "mds_no", vendor="Intel"), table)
    assert guest.mode is CpuMode.CUSTOM and guest.model is not None and guest.model.name == "new"
    assert features(guest) == {"mds_no": FeaturePolicy.REQUIRE, "avx": FeaturePolicy.DISABLE}


def test_optional_features_are_there_or_not(table: X86Map) -> None:
    wanted = [CpuFeature(name=name, policy=FeaturePolicy.OPTIONAL) for name in ("avx", "hle")]
    guest = GuestCpu(mode=CpuMode.CUSTOM, model=CpuModel(name="old"), features=wanted)
    update(guest, named("new"), table)
    assert features(guest) == {"avx": FeaturePolicy.REQUIRE, "hle": FeaturePolicy.DISABLE}


def test_a_model_that_the_emulator_lacks_is_said_with_another(table: X86Map) -> None:
    guest = named("new")
    translate(guest, {"old": ()}, table)
    assert guest.model is not None and guest.model.name == "old"
    assert set(features(guest)) == {"sse", "avx"}
    assert guest.model.fallback is None
    strict = GuestCpu(model=CpuModel(name="new", fallback="forbid"))
    with pytest.raises(ConfigUnsupported, match="CPU model new is not supported by hypervisor"):
        translate(strict, {"old": ()}, table)


def test_what_several_have_in_common(table: X86Map) -> None:
    cpu = baseline([named("new", "invtsc"), named("new", "invtsc")], table)
    assert cpu.model is not None and (cpu.model.name, cpu.model.fallback) == ("new", "forbid")
    assert not baseline([named("new", "invtsc")] * 2, table, migratable=True).features
    with pytest.raises(OperationFailed, match="vendors"):
        baseline([named("old", vendor="Intel"), named("old", vendor="AMD")], table)
    expand(cpu, table)
    assert list(features(cpu)) == ["avx", "fpu", "invtsc", "sse"]


# --- running guests --------------------------------------------------------------------------------------------------


def _bits(table: X86Map, *names: str) -> int:
    return sum(table.need_feature(name).bits for name in names)


def test_words_of_an_emulator_are_features(table: X86Map) -> None:
    words: list[dict[str, int | str]] = [
        {"cpuid-register": "EDX", "cpuid-input-eax": 1, "features": 0b11},
        {"cpuid-register": "EBX", "cpuid-input-eax": 7, "cpuid-input-ecx": 0, "features": 0x10},
        {"cpuid-register": "EAX", "cpuid-input-eax": 0x40000001, "features": 0xFF},
    ]
    assert bits_of_words(words, table) == _bits(table, "fpu", "sse", "hle")


def test_a_running_guests_processor_names_what_it_has_beside_and_lacks(table: X86Map) -> None:
    cpu = GuestCpu(
        mode=CpuMode.CUSTOM, model=CpuModel(name="new"), features=[CpuFeature(name="avx", policy=FeaturePolicy.REQUIRE)]
    )
    update_live(cpu, _bits(table, "fpu", "sse", "hle"), _bits(table, "invtsc"), table)
    assert {one.name: one.policy for one in cpu.features} == {
        "avx": FeaturePolicy.DISABLE,
        "invtsc": FeaturePolicy.DISABLE,
        "hle": FeaturePolicy.REQUIRE,
    }
    assert cpu.check is CpuCheck.FULL


def test_of_the_hosts_own_processor_only_what_was_taken_away_counts(table: X86Map) -> None:
    cpu = GuestCpu(mode=CpuMode.MAXIMUM, features=[CpuFeature(name="hle", policy=FeaturePolicy.DISABLE)])
    update_live(cpu, _bits(table, "fpu", "sse"), 0, table)
    assert [(one.name, one.policy) for one in cpu.features] == [("hle", FeaturePolicy.DISABLE)]
    update_live(GuestCpu(mode=CpuMode.MAXIMUM, check=CpuCheck.FULL), _bits(table, "fpu", "hle"), 0, table)


def test_a_guest_that_insists_on_its_processor_is_refused_another(table: X86Map) -> None:
    cpu = GuestCpu(mode=CpuMode.CUSTOM, model=CpuModel(name="new"), check=CpuCheck.FULL)
    with pytest.raises(OperationFailed, match=r"extra features: hle, missing features: sse$"):
        update_live(cpu, _bits(table, "fpu", "avx", "hle"), 0, table)
