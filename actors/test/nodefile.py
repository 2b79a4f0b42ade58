"""Reads a node description, the file that `test:///FILE.xml` names."""

from __future__ import annotations

from actors.test.blueprint import Blueprint


def read_node_file(path: str) -> Blueprint:
    """What the file describes. Raises XmlError and XmlDetailError for one that cannot be used."""
    raise NotImplementedError
