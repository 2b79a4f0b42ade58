"""The table of PC processors that libvirt installs: features by their bits, models by their features.

All bits of all registers that any feature uses are places in one number, so that sets of features are numbers too:
`a & ~b` takes away, `a & b` is what two have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lxml import etree

from conf.document import parse_document
from schema.errors import RefusedDocument

_REGISTERS = ("eax", "ebx", "ecx", "edx")
_WIDTH = 128


@dataclass(frozen=True, slots=True)
class Vendor:
    """Who makes processors; `text` is what they say of themselves."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature, which may be several bits."""

    name: str
    bits: int
    migratable: bool
    is_msr: bool = False
    """It stands in a register that only the kernel reads, not in what CPUID tells."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model says of itself: family, model, and of steppings those that are its own."""

    family: int
    model: int
    steppings: frozenset[int]

    def matches(self, signature: tuple[int, int, int]) -> bool:
        """It is this one's."""
        family, model, stepping = signature
        return (family, model) == (self.family, self.model) and (not self.steppings or stepping in self.steppings)


@dataclass(frozen=True, slots=True)
class Model:
    """A named set of features."""

    name: str
    vendor: Vendor | None
    bits: int
    signatures: tuple[Signature, ...]
    is_for_host: bool
    is_for_guest: bool
    removed: tuple[str, ...] = ()
    """Features that the model once had: emulators differ, so guests are told that they lack them."""

    def matches(self, signature: tuple[int, int, int]) -> bool:
        """A processor with this signature is one of this model."""
        return any(one.matches(signature) for one in self.signatures)


@dataclass(slots=True)
class X86Map:
    """The table. Features and models stand in the order of their files."""

    vendors: dict[str, Vendor] = field(default_factory=dict)
    features: dict[str, Feature] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    _places: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def find_feature(self, name: str) -> Feature | None:
        """The feature of that name, libvirt's or QEMU's."""
        return self.features.get(name) or self.features.get(self.aliases.get(name, ""))

    def need_feature(self, name: str) -> Feature:
        """As above. Raises RefusedDocument when there is none."""
        found = self.find_feature(name)
        if found is None:
            raise RefusedDocument(f"Unknown CPU feature {name}")
        return found

    def need_model(self, name: str) -> Model:
        """Raises RefusedDocument when there is none."""
        found = self.models.get(name)
        if found is None:
            raise RefusedDocument(f"Unknown CPU model {name}")
        return found

    def vendor_of_text(self, text: str) -> Vendor | None:
        """The vendor that says this of itself."""
        return next((one for one in self.vendors.values() if one.text == text), None)

    def bits_of(self, node: etree._Element, *, grow: bool = False) -> int:
        """The bits of a `<cpuid>` or `<msr>`; registers that no feature uses have none."""
        if node.tag == "cpuid":
            key = ("cpuid", _number(node, "eax_in"), _number(node, "ecx_in"))
        else:
            key = ("msr", _number(node, "index"), 0)
        place = self._places.get(key)
        if place is None:
            if not grow:
                return 0
            place = self._places[key] = len(self._places)
        return _packed([_number(node, register) for register in _REGISTERS]) << _WIDTH * place

    def bits_in(self, kind: str, number: int, part: int, values: Sequence[int]) -> int:
        """The bits of what one of `registers` holds: its four parts."""
        return _packed(values) << _WIDTH * self._places[kind, number, part]

    def registers(self) -> Iterator[tuple[str, int, int]]:
        """What features stand in: `cpuid` with what is asked of it, `msr` with the register's number."""
        yield from self._places

    def features_in(self, bits: int) -> Iterator[str]:
        """The names of the features in a set of bits; bits that one stands for are not looked at again."""
        for feature in self.features.values():
            if feature.bits & ~bits == 0:
                bits &= ~feature.bits
                yield feature.name


def _packed(values: Sequence[int]) -> int:
    return sum(value << 32 * number for number, value in enumerate(values))


def _number(node: etree._Element, name: str) -> int:
    return int(node.get(name) or "0", 0)


def parse_x86_map(read: Callable[[str], bytes]) -> X86Map:
    """The table whose files `read` gives by name, `index.xml` first. Raises XmlError and what `read` raises."""
    found = X86Map()
    root = parse_document(read("index.xml"))
    for arch in root.iterfind("arch"):
        if arch.get("name") != "x86":
            continue
        for include in arch.iterfind("include"):
            for node in parse_document(read(include.get("filename") or "")):
                _add(found, node)
    return found


def _add(found: X86Map, node: etree._Element) -> None:
    name = node.get("name") or ""
    if node.tag == "vendor":
        found.vendors[name] = Vendor(name, node.get("string") or "")
    elif node.tag == "feature":
        bits = 0
        for one in node.iterchildren("cpuid", "msr"):
            bits |= found.bits_of(one, grow=True)
        found.features[name] = Feature(name, bits, node.get("migratable") != "no", node.find("msr") is not None)
        for alias in node.iterfind("alias"):
            found.aliases[alias.get("name") or ""] = name
    elif node.tag == "model":
        found.models[name] = _model(found, name, node)


def _model(found: X86Map, name: str, node: etree._Element) -> Model:
    parent = node.find("model")
    base = found.models.get(parent.get("name") or "") if parent is not None else None
    bits = base.bits if base is not None else 0
    for one in node.iterfind("feature"):
        if one.get("removed") != "yes":
            bits |= found.need_feature(one.get("name") or "").bits
    vendor = node.find("vendor")
    decode = node.find("decode")
    signatures = tuple(_signature(one) for one in node.iterfind("signature"))
    own_vendor = found.vendors.get(vendor.get("name") or "") if vendor is not None else None
    return Model(
        name=name,
        vendor=own_vendor or (base.vendor if base is not None else None),
        bits=bits,
        signatures=signatures or (base.signatures if base is not None else ()),
        is_for_host=decode is None or decode.get("host") == "on",
        is_for_guest=decode is None or decode.get("guest") == "on",
        removed=tuple(one.get("name") or "" for one in node.iterfind("feature") if one.get("removed") == "yes"),
    )


def _signature(node: etree._Element) -> Signature:
    steppings: set[int] = set()
    for part in (node.get("stepping") or "").split(","):
        first, dash, last = part.partition("-")
        if first:
            steppings.update(range(int(first), int(last if dash else first) + 1))
    return Signature(_number(node, "family"), _number(node, "model"), frozenset(steppings))
