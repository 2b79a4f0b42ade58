"""Cases about images: their nodes, their chains, and the recordings of what changed in them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from lxml import etree

from actors.qemu.block import bitmaps
from actors.qemu.block.chain import Image, images_of, path_of
from actors.qemu.block.create import format_options, storage_options
from actors.qemu.block.nodes import storage_properties
from actors.qemu.block.places import backing_text, place_of
from actors.qemu.command.blockdev import disk_nodes
from actors.qemu.command.launch import Launch, Options
from actors.qemu.command.line import NULL
from actors.qemu.images import read_chain
from conf.domain.backing_strings import describe_backing, parse_backing
from conf.domain.disk import Disk
from conf.domain.storage_source import NetworkSource, Protocol, StorageSource
from conf.flags import ParseFlags, XmlFlags
from schema.errors import RefusedDocument
from tests.conformance.drivers import capabilities_of
from tests.conformance.qemu_launch import RecordedHost
from tests.shared import need_shared, shared_json
from tests.unit.qemu.test_command import domain_of

Case = dict[str, Any]

CHAIN: Final = tuple(f"libvirt-{number}-format" for number in range(1, 6))
_NODE_NAME_MAX: Final = 31


def _nodes(case: Case) -> dict[str, bitmaps.NodeBitmaps]:
    return bitmaps.read_nodes(shared_json("corpus", case["input"]))


def _pretty(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "[\n\n]" if text == "[]" else text


def detect(case: Case) -> str:
    """The recordings of each node of the chain."""
    lines = []
    nodes = _nodes(case)
    for name in CHAIN:
        if name not in nodes:
            continue
        node = nodes[name]
        lines.append(f"{name}:")
        if node.is_old:
            lines.append(" qcow2 v2")
        lines += [
            f" {one.name:>8}: record:{one.recording:d} busy:{one.busy:d} persist:{one.persistent:d} "
            f"inconsist:{one.inconsistent:d} gran:{one.granularity} dirty:{one.dirty}"
            for one in node.bitmaps
        ]
    return "\n".join(lines)


def validate(case: Case) -> str:
    """Whether a recording is whole."""
    return str(bitmaps.is_valid(_nodes(case), CHAIN, case["bitmap"]))


def backup_merge(case: Case) -> str:
    """What an incremental backup reads."""
    nodes = _nodes(case)
    return _pretty(bitmaps.for_backup(nodes, CHAIN, case["incremental"], case["target_node"], case["target_bitmap"]))


def checkpoint_delete(case: Case) -> str:
    """How a recording goes."""
    actions, reopened = bitmaps.for_deletion(_nodes(case), CHAIN, case["bitmap"])
    if not actions:
        return "NULL"
    lines = ["reopen nodes:", *reopened] if reopened else []
    return "\n".join([_pretty(actions), *lines])


def block_copy(case: Case) -> str:
    """Recordings after a copy."""
    copied = CHAIN[:1] if case["shallow"] else CHAIN
    return _pretty(bitmaps.after_copy(_nodes(case), copied, CHAIN, case["mirror_node"]))


def block_commit(case: Case) -> str:
    """Recordings after a commit."""
    top, base = int(case["top"]) - 1, int(case["base"]) - 1
    actions = bitmaps.after_commit(_nodes(case), CHAIN[top:base], CHAIN[base], is_active=top == 0)
    return f"merge bitmpas:\n{_pretty(actions)}" if actions else ""


# --- places of images ------------------------------------------------------------------------------------------------


def backing_string(case: Case) -> str:
    """A backing string as a source."""
    return parse_backing(case["input_text"]).to_xml(XmlFlags.NONE)


def _launch(case: Case) -> Launch:
    caps = capabilities_of({"caps": {"mode": "none"}, **case})
    return Launch(domain_of(""), caps, Options(), Path("/tmp"), RecordedHost(), -1)


def _disk(text: str, kind: str | None = None) -> tuple[Disk, list[tuple[str, str]], list[str]]:
    """A disk of a document with nodes of its own names: storage and format of each image, and other private names."""
    node = etree.fromstring(text)
    if kind is not None:
        disk = etree.Element("disk", type=kind)
        disk.append(node)
        node = disk
    names, others = [], []
    for private in node.iter("privateData"):
        found = {str(one.get("type")): str(one.get("name")) for one in private.iter("nodename")}
        names.append((found.get("storage", ""), found.get("format", "")))
        others.append(next((str(one.get("alias")) for one in private.iter("TLSx509")), ""))
    for private in list(node.iter("privateData")):
        parent = private.getparent()
        if parent is not None:
            parent.remove(private)
    for pair in names:
        for name in pair:
            if len(name) > _NODE_NAME_MAX:
                raise RefusedDocument(f"node-name '{name}' too long for qemu")
    if node.find("target") is None:
        etree.SubElement(node, "target", dev="vda", bus="virtio")
    disk_model = Disk.parse(node, ParseFlags.STATUS)
    return disk_model, names, others


def _number(disk: Disk) -> list[Image]:
    if disk.source is not None:
        disk.source.index = 1
    number, below = 1, disk.backing_store
    while below is not None and below.source is not None:
        number += 1
        below.index = number
        below = below.backing_store
    return images_of(disk)


def _renamed(text: str, names: list[tuple[str, str]], others: list[str]) -> str:
    """JSON with the names that the document gives instead of those that the driver makes."""
    for number, ((storage, form), other) in enumerate(zip(names, others, strict=True), 1):
        text = text.replace(f'"libvirt-{number}-format-encryption-secret0"', f'"{form}-encalias"')
        text = text.replace(f'"libvirt-{number}-storage-auth-secret0"', f'"{storage}-secalias"')
        text = text.replace(f'"objlibvirt-{number}-storage_tls0"', f'"{other}"')
        text = text.replace(f'"libvirt-{number}-format"', f'"{form}"')
        text = text.replace(f'"libvirt-{number}-storage"', f'"{storage}"')
    return text


def _plain(properties: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value is NULL else value for key, value in properties.items() if value is not None}


def _as_told(source: StorageSource, properties: dict[str, Any]) -> dict[str, Any]:
    """The cases' documents never went through the defaults: a monitor without a port has none."""
    if isinstance(source, NetworkSource) and source.protocol is Protocol.RBD and "server" in properties:
        servers = [
            {**one, "port": str(host.port or 0)} for one, host in zip(properties["server"], source.hosts, strict=True)
        ]
        return {**properties, "server": servers}
    return {key: value for key, value in properties.items() if key != "debug"}  # how much Gluster logs is a setting


def disk_nodes_of(case: Case) -> str:
    """All nodes of a disk, format above storage, and how each image would be named from above."""
    disk, names, others = _disk(need_shared("corpus", case["input"]).read_text(encoding="utf-8"))
    images = _number(disk)
    launch = _launch(case)
    made = []
    for image, node in zip(images, reversed(disk_nodes(launch, disk)), strict=True):
        steps = [_plain(properties) for option, properties in node.steps if option == "-blockdev"]
        made += [_as_told(image.source, one) if "driver" in one else one for one in reversed(steps)]
    texts = [_renamed(json.dumps(one, indent=2), names, others) for one in made]
    values = [json.loads(text) for text in texts]
    recorded = need_shared("corpus", case["expected"]).read_text(encoding="utf-8")
    if values != list(_values(recorded)):
        return "\n".join(texts)
    extra = case.get("expected_extra", {}).get("source_only")
    if extra is not None:
        wanted = need_shared("corpus", extra).read_text(encoding="utf-8")
        said = _source_only(launch, disk, images)
        if said.strip() != wanted.strip():
            return f"source only:\n{said}"
    return recorded


def _source_only(launch: Launch, disk: Disk, images: list[Image]) -> str:
    lines = []
    for image in images:
        storage = _as_told(image.source, storage_properties(launch, disk, image))
        place = json.dumps(place_of(storage), indent=2)
        name = backing_text(image.source, storage, indent=2)
        text = f"source only properties:\n{place}\nbacking store string:\n{name}"
        lines += ["(", *(f"  {line}" for line in text.splitlines()), ")"]
    return "\n".join(lines)


def _values(text: str) -> Iterator[Any]:
    decoder, place = json.JSONDecoder(), 0
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        if place >= len(text):
            return
        value, place = decoder.raw_decode(text, place)
        yield value


def image_create(case: Case) -> str:
    """How a new image is made."""
    disk, names, others = _disk(need_shared("corpus", case["input"]).read_text(encoding="utf-8"))
    image = _number(disk)[0]
    launch = _launch(case)
    storage = _as_told(image.source, storage_properties(launch, disk, image))
    protocol = storage_options(image.source, storage, int(case["physical"]))
    below = below_storage = None
    if "backing" in case.get("inputs", {}):
        under, _, _ = _disk(need_shared("corpus", case["inputs"]["backing"]).read_text(encoding="utf-8"))
        below = _number(under)[0]
        below_storage = storage_properties(launch, under, below)
    made = format_options(
        image.format,
        image.storage_node,
        int(case["capacity"]),
        below,
        below_storage=below_storage,
        encryption=getattr(image.source, "encryption", None),
        secret=f"{image.format_node}-encryption-secret0",
    )
    parts = []
    for word, value in (("protocol", protocol), ("format", made)):
        text = "<null>" if value is None else json.dumps(value, indent=2) + "\n"
        parts.append(f"{word}:\n{text}\n" if word == "protocol" else f"{word}:\n{text}")
    return _renamed("".join(parts), names, others)


def json_to_nodes(case: Case) -> str:
    """A backing string in JSON as QEMU is told of it."""
    found = describe_backing(need_shared("corpus", case["input"]).read_text(encoding="utf-8").strip())
    disk, _, _ = _disk("<disk type='file' device='disk'><source file='/x'/></disk>")
    image = Image(found.source, "raw", 1)
    properties = storage_properties(_launch(case), disk, image)
    properties = {key: value for key, value in properties.items() if key != "node-name"}
    if found.user is not None:
        properties["user"] = found.user
    if not found.checks_host_key:
        properties["host-key-check"] = {"mode": "none"}
    recorded = need_shared("corpus", case["expected"]).read_text(encoding="utf-8")
    return recorded if properties == json.loads(recorded) else json.dumps(properties, indent=2)


def source_there_and_back(case: Case) -> str:
    """A source as JSON, and read again."""
    disk, _, _ = _disk(case["input_text"], case["storage_type"])
    image = _number(disk)[0]
    image.source.index = None
    storage = _as_told(image.source, storage_properties(_launch(case), disk, Image(image.source, "raw", 1)))
    place = place_of(storage)
    if "cookie-secret" in storage:
        place["cookie-secret"] = storage["cookie-secret"]
    return parse_backing("json:" + json.dumps({"file": place})).to_xml(XmlFlags.NONE)


# --- chains ----------------------------------------------------------------------------------------------------------

_TYPES: Final = {"file": 1, "block": 2, "dir": 3, "network": 4, "volume": 5, "nvme": 6}
_NAMES: Final = (
    *("none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi"),
    *("fat", "vhd", "ploop", "cow", "qcow", "qcow2", "qed", "vmdk"),
)
_FORMATS: Final = {name: number for number, name in enumerate(_NAMES)}


def chain_probe(case: Case) -> str:
    """An image and all below it, read from the images."""
    folder = Path(tempfile.mkdtemp(prefix="vtchain", dir="/tmp"))
    try:
        start, word = _lay_out(case, folder)
        kind = "raw" if case["format"] == "auto" else case["format"]  # no format is guessed
        texts = []
        for layer in read_chain(start, kind):
            source = layer.source
            host = source.hosts[0].name if isinstance(source, NetworkSource) and source.hosts else None
            protocol = source.protocol.value if isinstance(source, NetworkSource) else "none"
            facts = {
                "path": path_of(source) or getattr(source, "name", None),
                "backingStoreRaw: ": layer.facts.backing,
                "capacity: ": layer.facts.capacity,
                "encryption: ": int(layer.facts.encrypted),
                "relPath": layer.relative,
                "type": _TYPES[source.cases[0] or "file"],
                "format": _FORMATS[layer.format],
                "protocol": protocol,
                "hostname": host,
            }
            lines = [
                f"{key if key.endswith(': ') else key + ':'}{'<null>' if value is None else value}"
                for key, value in facts.items()
            ]
            texts.append("\n".join(lines))
        return "\n\n".join(texts).replace(str(folder), word)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lay_out(case: Case, folder: Path) -> tuple[str, str]:
    """Puts the images of a case into a folder; gives where it starts and what the folder is called in its result."""
    if case.get("start_is_generated"):
        data = folder / "virstoragedata"
        data.mkdir()
        if shutil.which("qemu-img") is None:
            pytest.skip("qemu-img is not installed (Debian: qemu-utils)")
        raw, low, high = data / "raw", data / "qcow2", data / "wrap"
        _run("create", "-f", "raw", str(raw), "1k")
        _run("create", "-f", "qcow2", "-o", "compat=0.10", "-F", "raw", "-b", str(raw), str(low))
        _run("create", "-f", "qcow2", "-o", "compat=1.1", "-F", "qcow2", "-b", str(low), str(high))
        return str(high), "ABS_BUILDDIR"
    for name in case.get("inputs", {}).get("images", ()):
        target = folder / str(name).removeprefix("storage/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(need_shared("corpus", name), target)
    for name, target in case.get("links", {}).items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return f"{folder}/{case['start']}", "ABS_SRCDIR"


def _run(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True, timeout=30)


KINDS: Final[dict[str, Callable[[Case], str]]] = {
    "backing-json-to-blockdev": json_to_nodes,
    "backing-string-to-xml": backing_string,
    "bitmap-backup-merge": backup_merge,
    "bitmap-blockcommit": block_commit,
    "bitmap-blockcopy": block_copy,
    "bitmap-checkpoint-delete": checkpoint_delete,
    "bitmap-detect": detect,
    "bitmap-validate": validate,
    "disk-xml-to-blockdev": disk_nodes_of,
    "image-chain-probe": chain_probe,
    "image-create-props": image_create,
    "source-xml-json-xml": source_there_and_back,
}
