"""Untrusted text: what is no document, or a hostile one, is refused before it costs anything."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.document import MAX_BYTES, parse_document
from conf.domain.documents import parse_domain
from schema.errors import VirtError, XmlDetailError, XmlError

LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + b"".join(
        b'<!ENTITY lol%d "%s">' % (number, b"&lol%s;" % (str(number - 1).encode() if number > 1 else b"") * 10)
        for number in range(1, 10)
    )
    + b"]><domain type='test'><name>&lol9;</name></domain>"
)


def test_billion_laughs_is_refused_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(XmlError, match="document type declarations are not allowed"):
        parse_document(LAUGHS)
    assert time.monotonic() - began < 1


def test_external_entity_is_refused() -> None:
    text = b'<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain type="test"><name>&x;</name></domain>'
    with pytest.raises(XmlError, match="document type declarations are not allowed"):
        parse_document(text)


@pytest.mark.parametrize(
    "lead", [b" ", b"<?pi any?>", b"<!-- <!DOCTYPE x> -->\n", b'<?xml version="1.0"?>\n<!-- a --><?p b?>']
)
def test_doctype_is_found_behind_anything_that_may_stand_before_it(lead: bytes) -> None:
    with pytest.raises(VirtError, match=r"document type declarations are not allowed|declaration allowed only"):
        parse_document(lead + b"<!DOCTYPE domain []><domain/>")


def test_doctype_inside_a_comment_or_text_is_no_doctype() -> None:
    node = parse_document("<!-- <!DOCTYPE x> --><domain><name>&lt;!DOCTYPE x></name></domain>")
    assert node.tag == "domain"


def test_undeclared_entity_is_refused() -> None:
    with pytest.raises(XmlDetailError):
        parse_document("<domain>&nothing;</domain>")


def test_nul_byte_is_refused_with_its_line() -> None:
    with pytest.raises(XmlError, match="NUL byte in line 2"):
        parse_document(b"<domain>\n\0</domain>")


def test_broken_utf8_is_refused() -> None:
    with pytest.raises(XmlError, match="not UTF-8"):
        parse_document(b"<domain>\xff\xfe</domain>")


def test_lone_surrogate_is_refused() -> None:
    with pytest.raises(VirtError):
        parse_document("<domain>\ud800</domain>")


def test_too_long_document_is_refused_before_it_is_parsed() -> None:
    text = b"<domain>" + b" " * MAX_BYTES + b"</domain>"
    began = time.monotonic()
    with pytest.raises(XmlError, match="longer than"):
        parse_document(text)
    assert time.monotonic() - began < 0.5


def test_deep_nesting_is_refused() -> None:
    depth = 5000
    with pytest.raises(VirtError):
        parse_document(b"<a>" * depth + b"</a>" * depth)


def test_deep_backing_chain_is_refused_or_read_but_never_a_crash() -> None:
    depth = 200
    chain = "<backingStore type='file'><format type='raw'/><source file='/a'/>" * depth + "</backingStore>" * depth
    text = (
        "<domain type='test'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices><disk type='file'>"
        f"<source file='/b'/>{chain}<target dev='vda'/></disk></devices></domain>"
    )
    domain = parse_domain(text)
    assert domain.devices.disks[0].backing_store is not None
    domain.to_xml()


def test_other_root_is_refused() -> None:
    with pytest.raises(XmlError, match="expecting root element of 'domain', not 'network'"):
        parse_document("<network/>", root="domain")


def test_syntax_error_shows_the_place() -> None:
    with pytest.raises(XmlDetailError) as caught:
        parse_document("<info", name="metadata_xml")
    assert str(caught.value).splitlines()[0].startswith("(metadata_xml):1: ")
    assert str(caught.value).splitlines()[2] == "-----^"


@pytest.mark.parametrize("text", [b"", b"   ", b"<", b"<a", b"<a></b>", b"a", b"<a/><b/>", b"\xef\xbb\xbf"])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(VirtError):
        parse_document(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_document(data)
    except VirtError:
        pass


@given(st.text(alphabet="<>/='\"domaintype &;!-[]?\n", max_size=200))
def test_anything_like_a_document_is_read_or_refused(text: str) -> None:
    try:
        parse_domain("<domain type='test'>" + text)
    except VirtError:
        pass


@pytest.mark.parametrize(
    "part",
    [
        "<vcpu>99999999999999999999</vcpu>",
        "<vcpu>1000000000</vcpu>",
        "<vcpu>-1</vcpu>",
        "<vcpu cpuset='0-99999999'>1</vcpu>",
        "<memory unit='EiB'>99999999</memory>",
        "<memory unit='lightyears'>1</memory>",
        "<iothreads>4000000000</iothreads>",
        "<uuid>not-a-uuid</uuid>",
        "<cputune><vcpupin vcpu='0' cpuset='^'/></cputune>",
        "<devices><disk type='file'><source file='/x'/><target dev=''/></disk></devices>",
        "<devices><controller type='pci' index='99999999' model='pcie-root-port'/></devices>",
        "<devices><disk type='file'><source file='/x'/><target dev='" + "z" * 5000 + "' bus='scsi'/></disk></devices>",
        "<devices><interface type='user'><mac address='zz:zz'/></interface></devices>",
    ],
)
def test_hostile_values_are_refused_quickly(part: str) -> None:
    memory = "" if "<memory" in part else "<memory>1024</memory>"
    text = f"<domain type='test'><name>a</name>{memory}<os><type>hvm</type></os>{part}</domain>"
    began = time.monotonic()
    try:
        parse_domain(text)
    except VirtError:
        pass
    else:
        assert "index=" in part
    assert time.monotonic() - began < 1
