"""What is true of every element class: what was written is read back, and written the same again."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import conf
from conf.document import parse_document
from conf.element import Element
from conf.flags import XmlFlags
from tests.unit.conf.models import element_classes, models

for _module in pkgutil.walk_packages(conf.__path__, "conf."):
    importlib.import_module(_module.name)

CLASSES = element_classes()

quick = settings(
    max_examples=4,
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


quicker = settings(quick, max_examples=2)


def read_back(cls: type[Element], written: str) -> Element:
    """The element that a text describes; the prefix of an extension is declared around it."""
    if cls.namespace is None:
        return cls.parse(parse_document(written))
    prefix, address = cls.namespace
    return cls.parse(parse_document(f"<x xmlns:{prefix}='{address}'>{written}</x>")[0])


def test_there_are_classes_of_every_document() -> None:
    rooms = {cls.__module__.split(".")[1] for cls in CLASSES}
    assert {"domain", "cpu", "network", "storage", "node_device", "host_interface", "secret", "moment"} <= rooms
    assert len(CLASSES) > 300


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
@quick
@given(data=st.data())
def test_what_was_written_is_read_back(cls: type[Element], data: st.DataObject) -> None:
    model = data.draw(models(cls))
    written = model.to_xml(XmlFlags.SECURE)
    if not written:
        return  # an element of which nothing is left is not written
    assert read_back(cls, written) == model
    assert model.copy() == model


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
@quicker
@given(data=st.data())
def test_what_was_read_is_written_the_same_again(cls: type[Element], data: st.DataObject) -> None:
    written = data.draw(models(cls, all_parts=True)).to_xml(XmlFlags.SECURE)
    if not written:
        return
    again = read_back(cls, written).to_xml(XmlFlags.SECURE)
    assert read_back(cls, again).to_xml(XmlFlags.SECURE) == again
