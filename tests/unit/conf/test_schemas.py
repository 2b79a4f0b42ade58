"""Validation against schemas: those of a folder made here, and the host's where there are any."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.document import parse_document
from conf.domain.documents import parse_domain
from conf.domain.rules import DomainRules
from conf.flags import ParseFlags
from conf.nwfilter.documents import parse_nwfilter
from conf.schemas import check_schema, has_schema
from schema.errors import OperationUnsupported, XmlInvalidSchema

GRAMMAR = """<element name="secret" xmlns="http://relaxng.org/ns/structure/1.0">
  <element name="uuid"><text/></element>
</element>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.rng").write_text(GRAMMAR)
    (tmp_path / "pool.rng").write_text(
        "<element name='pool' xmlns='http://relaxng.org/ns/structure/1.0'><odd/></element>"
    )
    return tmp_path


def test_what_fits_is_taken(folder: Path) -> None:
    check_schema(parse_document("<secret><uuid>1</uuid></secret>"), folder=folder)


def test_what_does_not_fit_is_told_with_the_reason(folder: Path) -> None:
    with pytest.raises(XmlInvalidSchema, match=r"Unable to validate doc against .*secret\.rng\nExpecting an element"):
        check_schema(parse_document("<secret/>"), folder=folder)


def test_a_schema_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(OperationUnsupported, match=r"network\.rng' is not installed"):
        check_schema(parse_document("<network/>"), folder=folder)


def test_a_broken_schema_is_named(folder: Path) -> None:
    with pytest.raises(OperationUnsupported, match=r"pool\.rng' is broken"):
        check_schema(parse_document("<pool/>"), "pool.rng", folder=folder)


def test_a_document_without_a_schema(folder: Path) -> None:
    with pytest.raises(OperationUnsupported, match="no schema for documents of 'odd'"):
        check_schema(parse_document("<odd/>"), folder=folder)


@pytest.mark.real
@pytest.mark.skipif(not has_schema("domain.rng"), reason="libvirt's schemas are not installed")
def test_unknown_elements_are_refused_on_request() -> None:
    class Rules(DomainRules):
        default_arch = "x86_64"

    text = "<domain type='test'><name>d</name><memory>1</memory><os><type>hvm</type></os>{}</domain>"
    parse_domain(text.format(""), Rules(), ParseFlags.VALIDATE)
    parse_domain(text.format("<nonsense/>"), Rules())
    with pytest.raises(XmlInvalidSchema, match="nonsense"):
        parse_domain(text.format("<nonsense/>"), Rules(), ParseFlags.VALIDATE)
    with pytest.raises(XmlInvalidSchema):
        parse_nwfilter("<filter name='f'><nonsense/></filter>", validate=True)
