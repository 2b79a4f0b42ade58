"""Every message recorded between libvirt's clients and its daemon is read as expected and written back alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rpc.packet import Packet, PacketType, Program, Status, pack_packet
from tests.shared import SHARED, shared_json
from tests.wire.__main__ import main
from tests.wire.recorded import difference, recorded_messages

DOCUMENT: dict[str, Any] = shared_json("libvirt-rpc", "vectors.json")
MESSAGES = [message for message in recorded_messages(DOCUMENT) if message.where.startswith("vectors")]


@pytest.mark.parametrize("index", range(len(MESSAGES)), ids=lambda i: f"{i}-{MESSAGES[i].label.replace(' ', '-')}")
def test_recorded_message_is_read_as_expected_and_written_back_alike(index: int) -> None:
    assert difference(MESSAGES[index]) is None


def test_the_recording_was_found_whole() -> None:
    assert len(MESSAGES) == 913


def test_the_command_goes_through_messages_and_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--vectors", str(SHARED / "libvirt-rpc" / "vectors.json")]) == 0
    whole = [message for flow in DOCUMENT["flows"].values() for message in flow["messages"] if len(message) == 3]
    everything = len(whole) + len(MESSAGES)
    assert f"{everything} messages" in capsys.readouterr().out


def spoilt(data: bytes, **changes: Any) -> dict[str, Any]:
    vector = {"proc": "remote.X", "type": "call", "serial": 0, "hex": data.hex(), **changes}
    return {"vectors": [vector]}


CREATE = pack_packet(
    Packet(Program.REMOTE, 1, 9, PacketType.CALL, 0, Status.OK, b"\0\0\0\1x\0\0\0" + bytes(16) + b"\0\0\0\7")
)
CASES = {
    "padding that is not zero": spoilt(CREATE[:-21] + b"\1" + CREATE[-20:]),
    "a message that ends too early": spoilt(CREATE[:-4]),
    "bytes behind the last field": spoilt(
        pack_packet(Packet(Program.REMOTE, 1, 9, PacketType.CALL, 0, Status.OK, CREATE[28:] + b"more"))
    ),
    "another serial": spoilt(CREATE, serial=1),
    "another value": spoilt(CREATE, payload={"dom": {"name": "y", "uuid": "00" * 16, "id": 7}}),
    "descriptors that do not come": spoilt(CREATE, nfds=1),
    "no such procedure": spoilt(pack_packet(Packet(Program.REMOTE, 1, 9999, PacketType.CALL, 0, Status.OK, b""))),
    "no such event": spoilt(pack_packet(Packet(Program.REMOTE, 1, 9999, PacketType.MESSAGE, 0, Status.OK, b""))),
    "no such program": spoilt(pack_packet(Packet(1, 1, 1, PacketType.CALL, 0, Status.OK, b""))),
    "two messages": spoilt(CREATE + CREATE),
}


def run(document: Any, folder: Path) -> int:
    path = folder / "recording.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return main(["--vectors", str(path)])


def test_a_good_message_passes(tmp_path: Path) -> None:
    assert run(spoilt(CREATE), tmp_path) == 0
    assert run(spoilt(CREATE, payload={"dom": {"name": "x", "uuid": "00" * 16, "id": 7}}), tmp_path) == 0


@pytest.mark.parametrize("case", CASES)
def test_a_difference_is_found(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(CASES[case], tmp_path) == 1
    assert "1 differ" in capsys.readouterr().out


@pytest.mark.parametrize("document", [[], {}, {"vectors": [{"hex": "xyz"}]}, {"vectors": [{}]}])
def test_what_is_no_recording_is_said(document: Any, tmp_path: Path) -> None:
    assert run(document, tmp_path) == 2


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert main(["--vectors", str(tmp_path / "none")]) == 2
