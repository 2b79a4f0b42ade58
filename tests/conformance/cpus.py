"""Cases about processors: registers and QEMU's answers made into documents, documents compared and combined."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from lxml import etree

from actors.qemu.capabilities.host_model import properties_of_expansion
from actors.qemu.capabilities.processor_files import load_processors
from actors.qemu.processors import Processors
from conf.cpu import ppc64
from conf.cpu.cpu import CpuFeature, CpuMatch, CpuMode, CpuModel, GuestCpu
from conf.cpu.x86 import (
    Verdict,
    X86Data,
    baseline,
    bits_of_cpu,
    compare,
    data_of_properties,
    decode,
    expand,
    has_feature,
    parse_cpu_data,
    register_of,
    translate,
    update,
)
from conf.cpu.x86_live import update_live
from conf.cpu.x86_map import X86Map, parse_x86_map
from conf.document import parse_document
from schema.errors import OperationFailed
from tests.shared import SHARED, shared_json

Case = dict[str, Any]

MAP_FOLDER: Final = Path("/usr/share/libvirt/cpu_map")


@cache
def x86_map() -> X86Map:
    """The table that libvirt's package installs."""
    return parse_x86_map(lambda name: (MAP_FOLDER / name).read_bytes())


@cache
def ppc64_map() -> dict[str, str | None]:
    """The same for POWER."""
    return ppc64.parse_ppc64_map(lambda name: (MAP_FOLDER / name).read_bytes())


@cache
def _processors() -> Processors:
    return load_processors(MAP_FOLDER)


def host_cpu(name: str) -> GuestCpu:
    """One of the processors that libvirt's tests pretend to have."""
    told = shared_json("corpus", "qemu-caps", "host_cpus.json")
    one = next(cpu for key, cpu in told.items() if key.lower() == name.lower())
    model = CpuModel(name=one["model"]) if "model" in one else None
    return GuestCpu(model=model, vendor=one.get("vendor"), features=[CpuFeature(name=f) for f in one["features"]])


def processors_of(case: Case) -> Processors:
    """What is known of processors on the host of a case for a command line."""
    state = case.get("state") or {}
    arch = state.get("host.arch", "x86_64")
    default = {"aarch64": "Aarch64", "ppc64": "Power8", "s390x": "S390"}.get(arch, "Default")
    return replace(_processors(), host=host_cpu(state.get("host.cpu", default)), host_arch=arch)


def why_not(case: Case) -> str:
    """What keeps a case from being run."""
    if not MAP_FOLDER.is_dir():
        return "libvirt's table of processors is not installed on this host"
    return "" if case["arch"] in ("x86_64", "ppc64") else f"processors of {case['arch']} are not compared yet"


def _text(name: str) -> bytes:
    return (SHARED / "corpus" / name).read_bytes()


def _guest(cpu: GuestCpu) -> str:
    cpu.mode, cpu.match = CpuMode.CUSTOM, CpuMatch.EXACT
    assert cpu.model is not None
    cpu.model.fallback = "forbid"
    return cpu.to_xml()


def _host(cpu: GuestCpu, data: X86Data) -> str:
    signature = ""
    if data.signature is not None:
        family, model, stepping = data.signature
        signature = f"  <signature family='{family}' model='{model}' stepping='{stepping}'/>\n"
    vendor = f"  <vendor>{cpu.vendor}</vendor>\n" if cpu.vendor is not None else ""
    name = cpu.model.name if cpu.model is not None else ""
    features = "".join(f"  <feature name='{one.name}'/>\n" for one in cpu.features)
    return f"<cpu>\n  <arch>x86_64</arch>\n  <model>{name}</model>\n{vendor}{signature}{features}</cpu>\n"


def cpuid_to_cpu(case: Case) -> str:
    """The document of a processor's registers, as a host's or a guest's."""
    data = parse_cpu_data(_text(case["input"]), x86_map())
    if case["variant"] == "host":
        return _host(decode(data, x86_map(), for_host=True), data)
    models = case.get("inputs", {}).get("models")
    usable = _usable(_answers(models)) if models is not None else None
    return _guest(decode(data, x86_map(), usable))


def _usable(answers: list[Any]) -> dict[str, list[str]] | None:
    if len(answers) < 2:
        return None
    return {
        one["name"]: list(properties_of_expansion(dict.fromkeys(one.get("unavailable-features", ()), True)))
        for one in answers[1]
    }


def _signature(data: X86Data) -> str:
    if data.signature is None:
        return "000000\nfamily:     0 (0x00)\nmodel:      0 (0x00)\nstepping:   0 (0x00)\n"
    family, model, stepping = data.signature
    return (
        f"{register_of(data.signature):06x}\nfamily:    {family:2d} (0x{family:02x})\n"
        f"model:    {model:3d} (0x{model:02x})\nstepping:  {stepping:2d} (0x{stepping:02x})\n"
    )


def cpuid_signature(case: Case) -> str:
    """Family, model and stepping of a processor's registers."""
    return _signature(parse_cpu_data(_text(case["input"]), x86_map()))


def _answers(name: str) -> list[Any]:
    decoder, place, text, found = json.JSONDecoder(), 0, _text(name).decode(), []
    while place < len(text.rstrip()):
        value, place = decoder.raw_decode(text, place)
        found.append(value.get("return"))
        while place < len(text) and text[place].isspace():
            place += 1
    return found


def _reply(case: Case) -> tuple[X86Data, dict[str, list[str]] | None]:
    answers = _answers(case["input"])
    data = data_of_properties(properties_of_expansion(answers[0]["model"]["props"]), x86_map())
    return data, _usable(answers) if case.get("with_definitions", True) else None


def qmp_cpu_to_cpu(case: Case) -> str:
    """The document of what QEMU says of the host's processor."""
    data, usable = _reply(case)
    return _guest(decode(data, x86_map(), usable))


def qmp_cpu_signature(case: Case) -> str:
    """The same answer's family, model and stepping."""
    return _signature(_reply(case)[0])


def _cpu(name: str) -> GuestCpu:
    return _read(_text(name))


def _read(text: bytes | str) -> GuestCpu:
    node = parse_document(text)
    arch = node.find("arch")
    is_host = arch is not None or (node.get("match") is None and node.get("mode") is None)
    for tag in ("arch", "signature", "counter", "microcode", "pages", "topology"):
        for one in node.findall(tag):
            if is_host or tag != "topology":
                node.remove(one)
    if is_host and node.find("model") is not None and not (node.findtext("model") or "").strip():
        node.remove(node.find("model"))
    cpu = GuestCpu.parse(node)
    if cpu.model is not None and not is_host:
        cpu.model.fallback = cpu.model.fallback or "allow"
    return cpu


def cpu_compare(case: Case) -> str:
    """How a host's processor compares with another."""
    cpu = _cpu(case["input"])
    arch = parse_document(_text(case["input"])).findtext("arch")
    if arch not in (None, case["arch"]):
        return Verdict.INCOMPATIBLE.value
    host = _cpu(case["inputs"]["host"])
    if case["arch"] == "ppc64":
        ppc64.convert_legacy(cpu)
        return ppc64.compare(host, cpu, ppc64_map())[0].value
    return compare(host, cpu, x86_map(), is_guest=cpu.match is not None)[0].value


def cpu_has_feature(case: Case) -> str:
    """Whether a host's processor has a feature."""
    return str(has_feature(_cpu(case["input"]), case["feature"], x86_map()))


def _migratable(host: GuestCpu) -> GuestCpu:
    table = x86_map()
    host.features = [
        one for one in host.features if (found := table.find_feature(one.name)) is None or found.migratable
    ]
    return host


def cpu_update(case: Case) -> str:
    """A guest's processor as it is on a host, for a guest that may move."""
    guest = _cpu(case["input"])
    if case["arch"] == "ppc64":
        ppc64.update(guest, _cpu(case["inputs"]["host"]))
        return guest.to_xml()
    update(guest, _migratable(_cpu(case["inputs"]["host"])), x86_map())
    return guest.to_xml()


def cpu_guest(case: Case) -> str:
    """A guest's processor on a host, by models that an emulator knows."""
    guest, host = _cpu(case["input"]), _cpu(case["inputs"]["host"])
    models = dict.fromkeys(case.get("allowed_models", ()), ())
    if case["arch"] == "ppc64":
        ppc64.convert_legacy(guest)
        verdict, why = ppc64.compare(host, guest, ppc64_map())
    else:
        verdict, why = compare(host, guest, x86_map())
    if verdict is Verdict.INCOMPATIBLE:
        raise OperationFailed(why)
    if case["arch"] == "ppc64":
        ppc64.update(guest, host)
        ppc64.translate(guest, models)
    else:
        update(guest, _migratable(host), x86_map())
        translate(guest, models, x86_map())
    return guest.to_xml()


def cpu_baseline(case: Case) -> str:
    """The processor that several have in common."""
    if "input" in case:
        cpus = [_read(etree.tostring(node)) for node in parse_document(_text(case["input"])).iter("cpu")]
    else:
        cpus = [_cpu(name) for name in case["inputs"]["cpus"]]
    flags = case.get("flags", ())
    if case["arch"] == "ppc64":
        cpu = ppc64.baseline(cpus, ppc64_map())
    else:
        cpu = baseline(cpus, x86_map(), migratable="VIR_CONNECT_BASELINE_CPU_MIGRATABLE" in flags)
    cpu.mode, cpu.match = CpuMode.CUSTOM, CpuMatch.EXACT
    if "VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES" in flags:
        expand(cpu, x86_map())
    return cpu.to_xml()


def cpu_update_live(case: Case) -> str:
    """A running guest's processor by what QEMU said that it has and cannot have; more that it lacks is right."""
    table = x86_map()
    guest, wanted = _cpu(case["input"]), _cpu(case["expected"])
    enabled = parse_cpu_data(_text(case["inputs"]["enabled"]), table).bits
    disabled = parse_cpu_data(_text(case["inputs"]["disabled"]), table).bits
    update_live(guest, enabled, disabled, table)
    is_same = bits_of_cpu(guest, table) == bits_of_cpu(wanted, table)
    return _text(case["expected"]).decode() if is_same else guest.to_xml()


def _where_it_can(run: Callable[[Case], str]) -> Callable[[Case], str]:
    def made(case: Case) -> str:
        why = why_not(case)
        if why:
            pytest.skip(why)
        return run(case)

    return made


KINDS: Final[dict[str, Callable[[Case], str]]] = {
    kind: _where_it_can(run)
    for kind, run in {
        "cpu-baseline": cpu_baseline,
        "cpu-compare": cpu_compare,
        "cpu-guest": cpu_guest,
        "cpu-has-feature": cpu_has_feature,
        "cpu-update": cpu_update,
        "cpu-update-live": cpu_update_live,
        "cpuid-signature": cpuid_signature,
        "cpuid-to-cpu": cpuid_to_cpu,
        "qmp-cpu-signature": qmp_cpu_signature,
        "qmp-cpu-to-cpu": qmp_cpu_to_cpu,
    }.items()
}
"""How the text of a case is made."""
