"""Recordings of changes along a chain: which are whole, and how they are carried along."""

from __future__ import annotations

from typing import Any

from actors.qemu.block import bitmaps


def node(name: str, *recordings: str, old: bool = False, **wrong: Any) -> dict[str, Any]:
    """A node as QEMU tells of it."""
    return {
        "node-name": name,
        "image": {"format-specific": {"type": "qcow2", "data": {"compat": "0.10" if old else "1.1"}}},
        "dirty-bitmaps": [
            {"name": one, "recording": True, "persistent": True, "busy": False, "granularity": 65536, "count": 0}
            | (wrong if one in wrong.get("of", ()) else {})
            for one in recordings
        ],
    }


def test_a_recording_is_whole_without_gaps_alone() -> None:
    nodes = bitmaps.read_nodes([node("a", "x", "y"), node("b", "x"), node("c", "y", "z")])
    assert bitmaps.is_valid(nodes, ("a", "b", "c"), "x")
    assert not bitmaps.is_valid(nodes, ("a", "b", "c"), "y"), "b has none of it"
    assert bitmaps.is_valid(nodes, ("a", "b", "c"), "z")
    assert not bitmaps.is_valid(nodes, ("a", "b", "c"), "nosuch")
    bad = bitmaps.read_nodes([node("a", "x", of=("x",), inconsistent=True)])
    assert not bitmaps.is_valid(bad, ("a",), "x")


def test_a_backup_reads_the_union_of_the_chain() -> None:
    nodes = bitmaps.read_nodes([node("a", "x"), node("b", "x"), node("c")])
    made, merged = bitmaps.for_backup(nodes, ("a", "b", "c"), "x", "t", "n")
    assert made["data"] == {
        "node": "t", "name": "n", "persistent": False, "disabled": True, "granularity": 65536,
    }  # fmt: skip
    assert [one["node"] for one in merged["data"]["bitmaps"]] == ["a", "b"]
    assert bitmaps.for_backup(nodes, ("a",), "nosuch", "t", "n") == []


def test_a_commit_of_the_top_image_takes_what_was_written_meanwhile_along() -> None:
    nodes = bitmaps.read_nodes([node("a", "x"), node("b", "x")])
    actions = bitmaps.after_commit(nodes, ("a",), "b", is_active=True)
    assert [one["type"].rpartition("-")[2] for one in actions] == ["merge", "remove"]
    assert actions[0]["data"]["bitmaps"][-1] == {"node": "b", "name": bitmaps.WRITES}
    assert bitmaps.after_commit(nodes, ("a",), "b", is_active=False)[-1]["type"].endswith("merge")


def test_a_recording_goes_from_all_images_and_goes_on_in_an_overlay() -> None:
    nodes = bitmaps.read_nodes([node("a", "x"), node("b", "x"), node("c", "x")])
    actions, reopened = bitmaps.for_deletion(nodes, ("a", "b", "c"), "x")
    assert len(actions) == 3 and reopened == ["c", "b"], "the deepest is opened first, the top one is open"
    (added,) = bitmaps.for_overlay(nodes, "a", "new")
    assert added["data"]["node"] == "new" and added["data"]["persistent"]


def test_an_image_of_the_old_format_keeps_none() -> None:
    assert bitmaps.read_nodes([node("a", old=True)])["a"].is_old
