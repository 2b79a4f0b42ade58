"""Networks of the corpus that are changed part by part."""

from __future__ import annotations

from typing import Any, Final

from conf.network.documents import parse_network, write_network
from conf.network.sections import ADD_LAST, update_network
from schema.enums.network import NetworkUpdateCommand, NetworkUpdateSection
from tests.shared import SHARED

_COMMANDS: Final = {
    "add-first": NetworkUpdateCommand.ADD_FIRST,
    "add-last": ADD_LAST,
    "modify": NetworkUpdateCommand.MODIFY,
    "delete": NetworkUpdateCommand.DELETE,
}


def network_update(case: dict[str, Any]) -> str:
    """The network after the change."""
    corpus = SHARED / "corpus"
    network = parse_network((corpus / case["input"]).read_bytes())
    section = NetworkUpdateSection[case["section"].upper().replace("-", "_")]
    xml = (corpus / case["inputs"]["update"]).read_text(encoding="utf-8")
    update_network(network, _COMMANDS[case["command"]], section, case["parent_index"], xml)
    return write_network(network)
