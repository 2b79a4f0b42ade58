"""Working with PC processors: what model a set of features is, whether two fit, what several have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from conf.cpu.cpu import CpuFeature, CpuMatch, CpuMode, CpuModel, FeaturePolicy, GuestCpu
from conf.cpu.x86_map import Model, Vendor, X86Map
from conf.document import parse_document
from schema.errors import ConfigUnsupported, OperationFailed, RefusedDocument

_LEAF_SIGNATURE = 1
_BROKEN_TSX = (60, 69, 70)
_TSX = ("hle", "rtm")
Usable = Mapping[str, Sequence[str]]
"""Models that an emulator knows, with the features that keep each from being used here."""


@dataclass(frozen=True, slots=True)
class X86Data:
    """What a processor says of itself."""

    bits: int
    vendor: Vendor | None = None
    signature: tuple[int, int, int] | None = None


class Verdict(StrEnum):
    """How a host's processor compares with a wanted one."""

    INCOMPATIBLE = "incompatible"
    IDENTICAL = "identical"
    SUPERSET = "superset"


def parse_cpu_data(xml: bytes | str, table: X86Map) -> X86Data:
    """The registers of a `<cpudata>` document. Raises XmlError."""
    bits, vendor, signature = 0, None, None
    for node in parse_document(xml):
        if node.tag not in ("cpuid", "msr"):
            continue
        bits |= table.bits_of(node)
        if node.tag == "cpuid" and int(node.get("ecx_in") or "0", 0) == 0:
            leaf = int(node.get("eax_in") or "0", 0)
            if leaf == 0:
                text = b"".join(int(node.get(name) or "0", 0).to_bytes(4, "little") for name in ("ebx", "edx", "ecx"))
                vendor = table.vendor_of_text(text.decode("latin-1"))
            elif leaf == _LEAF_SIGNATURE:
                signature = signature_of(int(node.get("eax") or "0", 0))
    return X86Data(bits, vendor, signature)


def signature_of(eax: int) -> tuple[int, int, int] | None:
    """Family, model and stepping of the register that holds them; None for an empty one."""
    if not eax:
        return None
    family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
    if family in (6, 15):
        model += (eax >> 16 & 0xF) << 4
    if family == 15:
        family += eax >> 20 & 0xFF
    return family, model, eax & 0xF


def register_of(signature: tuple[int, int, int]) -> int:
    """The register that holds a signature."""
    family, model, stepping = signature
    extended = max(family - 15, 0)
    return extended << 20 | model >> 4 << 16 | min(family, 15) << 8 | (model & 0xF) << 4 | stepping


@dataclass(frozen=True, slots=True)
class _Candidate:
    model: Model
    features: tuple[tuple[str, bool], ...]

    @property
    def absent(self) -> int:
        return sum(1 for _, is_there in self.features if not is_there)

    def is_better_than(self, other: _Candidate, signature: tuple[int, int, int] | None) -> bool:
        if signature is not None and self.model.matches(signature) != other.model.matches(signature):
            return self.model.matches(signature)
        return (self.weight, self.absent) < (other.weight, other.absent)

    @property
    def weight(self) -> int:
        """How far the model is off: what must be taken away weighs twice what must be added."""
        return len(self.features) + self.absent


def decode(
    data: X86Data,
    table: X86Map,
    usable: Usable | None = None,
    *,
    for_host: bool = False,
    only_adding: bool = False,
    preferred: str | None = None,
    migratable: bool = False,
) -> GuestCpu:
    """The model and the features that come nearest to what a processor says of itself.

    `usable` are the models to choose from; with `only_adding` those that have a feature too many are out. Raises
    RefusedDocument when none will do.
    """
    data = _without_broken_tsx(data, table)
    best: _Candidate | None = None
    for model in reversed(table.models.values()):
        if usable is not None and model.name not in usable:
            continue
        if not (model.is_for_host if for_host else model.is_for_guest):
            continue
        if model.vendor is not None and data.vendor is not None and model.vendor != data.vendor:
            continue
        blockers = usable[model.name] if usable is not None else ()
        candidate = _candidate(data, table, model, blockers)
        if (for_host or only_adding) and candidate.absent:
            continue
        if preferred == model.name:
            best = candidate
            break
        if best is None or candidate.is_better_than(best, data.signature):
            best = candidate
    if best is None:
        raise RefusedDocument("Cannot find suitable CPU model for given data")
    features = [
        CpuFeature(
            name=name,
            policy=None if for_host else (FeaturePolicy.REQUIRE if is_there else FeaturePolicy.DISABLE),
        )
        for name, is_there in best.features
        if not (migratable and is_there and not table.features[name].migratable)
    ]
    if not for_host:
        told = {one.name for one in features}
        features += [
            CpuFeature(name=name, policy=FeaturePolicy.DISABLE) for name in best.model.removed if name not in told
        ]
    cpu = GuestCpu(model=CpuModel(name=best.model.name), features=features)
    cpu.vendor = data.vendor.name if data.vendor is not None else None
    return cpu


def _without_broken_tsx(data: X86Data, table: X86Map) -> X86Data:
    """Transactions of early Haswells do not work; firmware takes them away later than one would think."""
    if data.vendor is None or data.vendor.name != "Intel" or data.signature is None:
        return data
    family, model, stepping = data.signature
    if family != 6 or not (model in _BROKEN_TSX or (model == 63 and stepping < 4)):
        return data
    bits = data.bits
    for name in _TSX:
        feature = table.find_feature(name)
        bits &= ~(feature.bits if feature is not None else 0)
    return X86Data(bits, data.vendor, data.signature)


def _candidate(data: X86Data, table: X86Map, model: Model, blockers: Collection[str]) -> _Candidate:
    extra = data.bits & ~model.bits
    missing = model.bits & ~data.bits
    for name in blockers:
        feature = table.find_feature(name)
        if feature is not None and feature.bits & ~extra:
            missing |= feature.bits
    features = [(name, True) for name in table.features_in(extra)]
    features += [(name, False) for name in table.features_in(missing)]
    return _Candidate(model, tuple(features))


def data_of_properties(properties: Mapping[str, bool | int | str], table: X86Map) -> X86Data:
    """What a processor is by QEMU's names for its properties; names that nobody knows are left out."""
    bits = 0
    for name, value in properties.items():
        feature = table.find_feature(name)
        if value is True and feature is not None:
            bits |= feature.bits
    vendor = table.vendor_of_text(str(properties.get("vendor", "")))
    numbers = tuple(properties.get(name) for name in ("family", "model", "stepping"))
    signature = None
    if all(isinstance(one, int) for one in numbers):
        signature = (int(numbers[0] or 0), int(numbers[1] or 0), int(numbers[2] or 0))
    return X86Data(bits, vendor, signature)


def bits_of_cpu(cpu: GuestCpu, table: X86Map, policy: FeaturePolicy | None = None) -> int:
    """The features that a document names with one policy; None: all that the described processor has.

    Raises RefusedDocument for names that are in no table.
    """
    bits = 0
    if cpu.model is not None and cpu.model.name and policy in (None, FeaturePolicy.REQUIRE):
        bits = table.need_model(cpu.model.name).bits
    for one in cpu.features:
        own = one.policy or FeaturePolicy.REQUIRE
        feature = table.need_feature(one.name)
        if policy is None:
            if own in (FeaturePolicy.FORCE, FeaturePolicy.REQUIRE):
                bits |= feature.bits
            elif own in (FeaturePolicy.DISABLE, FeaturePolicy.FORBID):
                bits &= ~feature.bits
        elif own is policy:
            bits |= feature.bits
    return bits


def compare(host: GuestCpu, cpu: GuestCpu, table: X86Map, *, is_guest: bool = True) -> tuple[Verdict, str]:
    """Whether the host's processor has what is wanted, and why not."""
    if cpu.vendor is not None and cpu.vendor != host.vendor:
        if cpu.vendor not in table.vendors:
            raise RefusedDocument(f"Unknown CPU vendor {cpu.vendor}")
        return Verdict.INCOMPATIBLE, f"host CPU vendor does not match required CPU vendor {cpu.vendor}"
    there = bits_of_cpu(host, table)
    force, require, optional, disable, forbid = (bits_of_cpu(cpu, table, one) for one in _POLICIES)
    if forbid & there:
        return Verdict.INCOMPATIBLE, f"Host CPU provides forbidden features: {_names(forbid & there, table)}"
    require &= ~(force | optional | disable)
    if require & ~there:
        return (
            Verdict.INCOMPATIBLE,
            f"Host CPU does not provide required features: {_names(require & ~there, table)}",
        )
    extra = there & ~(optional | require | disable | force)
    if not extra:
        return Verdict.IDENTICAL, ""
    if is_guest and cpu.match is CpuMatch.STRICT:
        return (
            Verdict.INCOMPATIBLE,
            f"Host CPU does not strictly match guest CPU: Extra features: {_names(extra, table)}",
        )
    return Verdict.SUPERSET, ""


_POLICIES = (
    FeaturePolicy.FORCE,
    FeaturePolicy.REQUIRE,
    FeaturePolicy.OPTIONAL,
    FeaturePolicy.DISABLE,
    FeaturePolicy.FORBID,
)


def _names(bits: int, table: X86Map) -> str:
    return ", ".join(table.features_in(bits))


def has_feature(cpu: GuestCpu, name: str, table: X86Map) -> bool:
    """The described processor has the feature."""
    feature = table.need_feature(name)
    return feature.bits & ~bits_of_cpu(cpu, table) == 0


def update(guest: GuestCpu, host: GuestCpu, table: X86Map) -> None:
    """Settles what a guest's processor is on a host: host-model and minimum become its model and features.

    Raises RefusedDocument for names that are in no table.
    """
    if guest.mode in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM):
        return
    if guest.mode is None:
        guest.mode = CpuMode.CUSTOM
    for one in guest.features:
        if one.policy is FeaturePolicy.OPTIONAL:
            one.policy = FeaturePolicy.REQUIRE if has_feature(host, one.name, table) else FeaturePolicy.DISABLE
    if guest.mode is not CpuMode.HOST_MODEL and guest.match is not CpuMatch.MINIMUM:
        _take_removed_away(guest, table)
        return
    wanted = {one.name: one.policy for one in guest.features}
    vendor_id = guest.model.vendor_id if guest.model is not None else None
    fallback = guest.model.fallback if guest.model is not None else None
    model = host.model.name if host.model is not None else None
    guest.model = CpuModel(name=model, fallback=fallback or "allow", vendor_id=vendor_id)
    guest.vendor = host.vendor
    guest.mode, guest.match = CpuMode.CUSTOM, CpuMatch.EXACT
    features = {one.name: one.policy or FeaturePolicy.REQUIRE for one in host.features}
    features |= {name: policy or FeaturePolicy.REQUIRE for name, policy in wanted.items()}
    guest.features = [CpuFeature(name=name, policy=policy) for name, policy in features.items()]
    _take_removed_away(guest, table)


def _take_removed_away(guest: GuestCpu, table: X86Map) -> None:
    """What a model once had, and may still have for an emulator, the guest has only if its definition says so."""
    model = table.models.get(guest.model.name or "") if guest.model is not None else None
    told = {one.name for one in guest.features}
    guest.features += [
        CpuFeature(name=name, policy=FeaturePolicy.DISABLE)
        for name in (model.removed if model is not None else ())
        if name not in told
    ]


def translate(cpu: GuestCpu, usable: Usable, table: X86Map) -> None:
    """Describes a guest's processor by a model that its emulator knows.

    Raises ConfigUnsupported when the document forbids that.
    """
    name = cpu.model.name if cpu.model is not None else None
    if name is None or not usable or name in usable:
        return
    assert cpu.model is not None
    if cpu.model.fallback == "forbid":
        raise ConfigUnsupported(f"CPU model {name} is not supported by hypervisor")
    model = table.need_model(name)
    forced = {one.name: one.policy for one in cpu.features}
    vendor = table.vendors.get(cpu.vendor) if cpu.vendor is not None else model.vendor
    found = decode(X86Data(bits_of_cpu(cpu, table), vendor), table, usable)
    features = {one.name: one.policy for one in found.features} | forced
    cpu.model.name = found.model.name if found.model is not None else None
    cpu.features = [CpuFeature(name=one, policy=policy) for one, policy in features.items()]


def baseline(
    cpus: Sequence[GuestCpu],
    table: X86Map,
    usable: Usable | None = None,
    features: Collection[str] | None = None,
    *,
    migratable: bool = False,
) -> GuestCpu:
    """The processor that all of several have. Raises OperationFailed when they have nothing in common."""
    bits: int | None = None
    vendor: Vendor | None = None
    names = {one.model.name if one.model is not None else None for one in cpus}
    is_told = all(one.vendor is not None for one in cpus)
    for one in cpus:
        own = bits_of_cpu(one, table)
        bits = own if bits is None else bits & own
        model = table.models.get(one.model.name or "") if one.model is not None else None
        # the first one's model says nothing of its vendor: any of that kind may be meant
        maker = model.vendor if model is not None and one is not cpus[0] else None
        if one.vendor is not None:
            told = table.vendors.get(one.vendor)
            if told is None:
                raise RefusedDocument(f"Unknown CPU vendor {one.vendor}")
            if model is not None and model.vendor is not None and told != model.vendor:
                raise OperationFailed(
                    f"CPU vendor {model.vendor.name} of model {model.name} differs from vendor {told.name}"
                )
            maker = told
        if maker is not None:
            if vendor is not None and vendor != maker:
                raise OperationFailed("CPU vendors do not match")
            vendor = maker
    if features is not None:
        wanted = 0
        for name in features:
            feature = table.find_feature(name)
            wanted |= feature.bits if feature is not None else 0
        bits = (bits or 0) & wanted
    if not bits:
        raise OperationFailed("CPUs are incompatible")
    same = names.pop() if len(names) == 1 else None
    data = X86Data(bits, vendor)
    # of processors of hosts, what is told must be all that there is to say; guests can be kept from seeing some
    are_hosts = usable is None and cpus[0].match is None and cpus[0].mode is None
    cpu = decode(data, table, usable, only_adding=are_hosts, preferred=same, migratable=migratable)
    assert cpu.model is not None
    cpu.model.fallback = "forbid" if cpu.model.name == same else "allow"
    if not is_told:
        cpu.vendor = None
    return cpu


def expand(cpu: GuestCpu, table: X86Map) -> None:
    """Names every feature that the described processor has, in the order of their names."""
    told = {one.name: one for one in cpu.features}
    for name in table.features_in(bits_of_cpu(cpu, table)):
        told.setdefault(name, CpuFeature(name=name, policy=FeaturePolicy.REQUIRE))
    cpu.features = [told[name] for name in sorted(told)]
