"""What stands in images as the place of those below, and the first bytes of images: anything may be in there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.domain.backing_strings import beside, describe_backing, is_path, parse_backing
from conf.domain.storage_source import FileSource, NetworkSource
from conf.storage.image_header import BrokenHeader, ImageFacts, probe_format, read_image
from schema.errors import RefusedDocument


def test_paths_are_told_from_places_elsewhere() -> None:
    assert is_path("/a:b") and is_path("plain") and is_path("./nbd:x")
    assert not is_path("nbd:host:1") and not is_path("json:{}") and not is_path("http://h/f")
    assert beside("base", "/images/top") == "/images/base"
    assert beside("../base", "/images/top") == "/images/../base", "links in between are QEMU's to follow"
    assert beside("/base", "/images/top") == "/base" and beside("base", "top") == "base"


def test_nested_formats_are_looked_through_and_flat_keys_unfolded() -> None:
    found = parse_backing('json:{"driver":"qcow2","file":{"driver":"file","filename":"/x"}}')
    assert isinstance(found, FileSource) and found.file == "/x"
    found = parse_backing('json:{"file.driver":"nbd","file.server.host":"h","file.server.port":"7"}')
    assert isinstance(found, NetworkSource) and (found.hosts[0].name, found.hosts[0].port) == ("h", 7)
    part = parse_backing('json:{"driver":"raw","offset":10,"size":20,"file":{"driver":"file","filename":"/x"}}')
    assert isinstance(part, FileSource) and (part.slices[0].offset, part.slices[0].size) == (10, 20)
    assert describe_backing('json:{"file":{"driver":"ssh","path":"p","host":"h","user":"u"}}').user == "u"


@pytest.mark.parametrize(
    "text",
    [
        "json:[]",
        "json:{",
        'json:{"file":{}}',
        'json:{"driver":"nosuch"}',
        "nosuch:thing",
        "nbd:host",
        "nbd+unix:///x",
        "gluster://host/volume",
        "http://[broken/x",
        'json:{"file":{"driver":"nvme","device":"nonsense","namespace":1}}',
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(RefusedDocument):
        parse_backing(text)


@given(st.text(max_size=80), st.sampled_from(["", "json:", "nbd:", "rbd:", "http://", "nbd+unix://", 'json:{"file":']))
def test_any_text_is_a_place_or_refused(text: str, start: str) -> None:
    try:
        parse_backing(start + text)
    except RefusedDocument:
        pass


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["driver", "file", "server", "server.0.host", "path", "url", "lun"]), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["driver", "file", "file.driver", "file.server.0", "export"]), _values))
def test_any_json_is_a_place_or_refused(values: dict[str, object]) -> None:
    import json

    try:
        parse_backing("json:" + json.dumps(values))
    except RefusedDocument:
        pass


@given(st.binary(max_size=900), st.sampled_from([b"", b"QFI\xfb", b"QED\0", b"KDMV", b"conectix"]))
def test_any_bytes_are_an_image_or_broken(data: bytes, magic: bytes) -> None:
    head = magic + data
    for kind in (probe_format(head), "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "raw", "luks"):
        try:
            facts = read_image(head, kind)
        except BrokenHeader:
            continue
        assert isinstance(facts, ImageFacts) and facts.capacity >= 0
        assert facts.backing is None or len(facts.backing) <= len(head)


def test_formats_are_known_by_their_first_bytes() -> None:
    assert probe_format(b"QFI\xfb\0\0\0\x03") == "qcow2" and probe_format(b"QFI\xfb\0\0\0\x01") == "qcow"
    assert probe_format(b"") == probe_format(b"\0" * 600) == "raw"
    assert probe_format(b"\0" * 64 + b"\x7f\x10\xda\xbe") == "vdi"
