"""Documents of guests that are known without being read, and definitions that stay on disk until asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from actors.qemu import records
from actors.qemu.guest import Guest
from actors.qemu.index import IndexKeeper, Reading, brief, read_documents, read_index, write_index
from actors.qemu.process import ProcessId
from actors.qemu.records import Facts, KeptText, Record, Run, text_of
from actors.runtime.objects import digest_of
from schema.errors import HostSystemError, InternalError

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db18{:02d}"
XML = "<domain type='test'><name>{}</name></domain>"


def record(number: int, **values: object) -> Record:
    """A guest that is off."""
    made = Record(UUID.format(number), f"g{number}", Facts(max_mem=number), xml=XML.format(number))
    return msgspec.structs.replace(made, **values)


def put(folder: Path, *made: Record, age_s: float = 10.0) -> None:
    """Writes documents, as long ago as said."""
    folder.mkdir(exist_ok=True)
    for one in made:
        path = folder / f"{one.uuid}.json"
        path.write_bytes(records.encode(one))
        when = time.time() - age_s
        os.utime(path, (when, when))


def settled(found: Reading) -> Reading:
    """As if the documents had been there for long: their inodes changed just now, in a test."""
    for name, one in found.known.items():
        found.known[name] = msgspec.structs.replace(one, ctime_ns=one.mtime_ns)
    return found


def names(found: Reading) -> list[str]:
    return [known.record.name for known in found.known.values()]


def test_only_what_changed_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "domains"
    put(folder, record(1), record(2), record(3))
    first = read_documents(folder, {})
    assert (first.read, names(first)) == (3, ["g1", "g2", "g3"])
    assert read_documents(folder, first.known).read == 0
    put(folder, record(2, name="new"), age_s=5)
    (folder / f"{UUID.format(3)}.json").unlink()
    second = read_documents(folder, first.known)
    assert (second.read, names(second)) == (1, ["g1", "new"])


def test_a_document_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "domains"
    put(folder, record(1))
    (folder / "x.json").write_bytes(b"{")
    (folder / "y.json.new").write_bytes(b"{")
    found = read_documents(folder, {})
    assert names(found) == ["g1"]
    assert list(found.broken) == ["x.json"]
    assert read_documents(tmp_path / "none", {}).known == {}


def test_the_index_is_written_and_read(tmp_path: Path) -> None:
    folder, path = tmp_path / "domains", tmp_path / "cache" / "index"
    put(folder, record(1), record(2, xml=None, autostart=True))
    found = read_documents(folder, {})
    write_index(path, settled(found))
    again = read_index(path)
    assert again == found.known
    assert path.stat().st_mode & 0o777 == 0o600
    assert [known.digest for known in again.values()] == [digest_of(XML.format(1).encode()), digest_of(b"")]


def test_young_documents_and_running_guests_are_always_read(tmp_path: Path) -> None:
    folder, path = tmp_path / "domains", tmp_path / "index"
    run = Run(1, 2, 3, "b", "/f", "/e", "<domain/>", Facts(), 1, 1, 0.0, 0.0)
    put(folder, record(1, run=run))
    put(folder, record(2), age_s=-3600)  # written just now, however slow this host is
    found = read_documents(folder, {})
    write_index(path, settled(found))
    assert read_index(path) == {}
    running = brief(found.known[f"{UUID.format(1)}.json"], str(folder))
    assert type(running.xml) is str and running.xml == XML.format(1)
    assert running.run is not None and running.run.process == ProcessId(2, 3, "b")


@pytest.mark.parametrize("data", [b"", b"\xff", msgspec.msgpack.encode({"format": 0, "known": []})])
def test_a_damaged_index_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "index").write_bytes(data)
    assert read_index(tmp_path / "index") == {}
    assert read_index(tmp_path / "none") == {}


def test_a_definition_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, record(1))
    (known,) = read_documents(tmp_path, {}).known.values()
    guest = Guest(brief(known, str(tmp_path)), "qemu:///system")
    assert isinstance(guest.record.xml, KeptText)
    assert guest.is_persistent and guest.summary()["max_mem"] == 1
    assert guest.config.name == "1"
    changed = msgspec.structs.replace(guest.record, autostart=True)
    assert records.decode(records.encode(changed)) == record(1, autostart=True)
    guest.adopt(changed)
    config = guest.config
    guest.adopt(msgspec.structs.replace(changed, autostart=False))
    assert guest.config is config, "nothing changed in the definition"
    guest.adopt(record(1))
    assert guest.config is not config


def test_what_was_read_stays_when_the_document_changes(tmp_path: Path) -> None:
    put(tmp_path, record(1))
    text = KeptText(str(tmp_path / f"{UUID.format(1)}.json"))
    assert text_of(text) == XML.format(1)
    put(tmp_path, record(1, xml="<other/>"))
    assert text_of(text) == XML.format(1)
    assert text != "" and text == text and text != KeptText(text.path)


def test_a_definition_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostSystemError):
        text_of(KeptText(str(tmp_path / "none.json")))
    (tmp_path / "broken.json").write_bytes(b"{")
    with pytest.raises(InternalError):
        text_of(KeptText(str(tmp_path / "broken.json")))
    assert text_of("<domain/>") == "<domain/>"


def test_the_keeper_writes_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, keeper = tmp_path / "domains", IndexKeeper(tmp_path / "index")
    monkeypatch.setattr("actors.qemu.index._SETTLED_NS", 0)
    put(folder, record(1))
    keeper.refresh(folder)
    assert list(read_index(keeper.path)) == [f"{UUID.format(1)}.json"]
    keeper.path.unlink()
    keeper.refresh(folder)
    assert not keeper.path.exists(), "nothing changed"
    put(folder, record(2))
    os.utime(folder, (1, 1))  # the clock of the file system may not have ticked since
    keeper.refresh(folder)
    assert len(read_index(keeper.path)) == 2
    keeper.refresh(tmp_path / "none")
