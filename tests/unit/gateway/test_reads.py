from __future__ import annotations

import struct
from typing import Any

import pytest

from gateway.domains import XML_BYTES_MAX, DomainView, xdr_text
from gateway.reads import READERS, find_domain, read_unknown
from gateway.replica import Replica, View
from rpc.xdr import args_codec, result_codec
from schema.body import args_struct
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.unit.gateway.records import SCOPE, summary, uuid_of


def view_of(*names: str, **changes: Any) -> DomainView:
    view = DomainView()
    for number, name in enumerate(names):
        view.put(uuid_of(name), name, 1, summary(**{key: value[number] for key, value in changes.items()}))
    return view


VIEW = view_of(
    "a",
    "web1",
    "long name ü",
    id=[-1, 5, 9],
    state=[5, 1, 3],
    reason=[2, 1, 1],
    persistent=[True, False, True],
    autostart=[False, True, False],
    managed_save=[True, False, False],
)


def whole(domains: DomainView) -> View:
    return View(Replica("test"), SCOPE, domains)


def ask(name: str, view: DomainView = VIEW, /, **args: Any) -> Any:
    """What the read model answers, as values; None when it does not."""
    row = need_procedure(name)
    payload = args_codec(row).encode(args_struct(row)(**args))
    answer = READERS[name](whole(view), payload)
    return None if answer is None else result_codec(row).decode(answer)


def dom(name: str, id: int = -1) -> DomainRef:
    return DomainRef(name, uuid_of(name), id)


def test_lookups_give_name_uuid_and_id() -> None:
    expected = dom("web1", 5)
    assert ask("domain_lookup_by_name", name="web1").dom == expected
    assert ask("domain_lookup_by_uuid", uuid=uuid_of("web1")).dom == expected
    assert ask("domain_lookup_by_id", id=5).dom == expected
    assert ask("domain_lookup_by_name", name="long name ü").dom == dom("long name ü", 9)


def test_what_is_not_known_is_left_to_the_driver() -> None:
    assert ask("domain_lookup_by_name", name="web2") is None
    assert ask("domain_lookup_by_uuid", uuid=bytes(16)) is None
    assert ask("domain_lookup_by_id", id=-1) is None
    assert ask("domain_get_state", dom=dom("nobody"), flags=0) is None
    assert ask("domain_get_state", dom=dom("web1"), flags=1) is None
    assert ask("domain_has_managed_save_image", dom=dom("web1"), flags=4) is None


def test_a_stale_name_or_id_does_not_matter() -> None:
    assert ask("domain_get_state", dom=DomainRef("old name", uuid_of("web1"), 77), flags=0).state == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("domain_is_active", {"a": 0, "web1": 1}),
        ("domain_is_persistent", {"a": 1, "web1": 0}),
        ("domain_get_autostart", {"a": 0, "web1": 1}),
        ("domain_get_os_type", {"a": "hvm"}),
        ("domain_get_max_memory", {"a": 1024}),
    ],
)
def test_single_facts(name: str, expected: dict[str, Any]) -> None:
    for guest, value in expected.items():
        result = ask(name, dom=dom(guest))
        assert getattr(result, need_procedure(name).ret[0].name) == value


def test_state_carries_its_reason() -> None:
    result = ask("domain_get_state", dom=dom("a"), flags=0)
    assert (result.state, result.reason) == (5, 2)
    assert ask("domain_has_managed_save_image", dom=dom("a"), flags=0).result == 1


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0, ["a", "web1", "long name ü"]),
        (1, ["web1", "long name ü"]),
        (2, ["a"]),
        (3, ["a", "web1", "long name ü"]),
        (1 | 8, ["web1"]),
        (16, ["web1"]),
        (32, ["long name ü"]),
        (64, ["a"]),
    ],
)
def test_lists_select_by_flags(flags: int, names: list[str]) -> None:
    result = ask("connect_list_all_domains", need_results=1, flags=flags)
    assert [one.name for one in result.domains] == names
    assert result.ret == len(names)
    short = ask("connect_list_all_domains", need_results=0, flags=flags)
    assert (short.domains, short.ret) == ([], len(names))


def test_list_with_an_unknown_flag_is_left_to_the_driver() -> None:
    assert ask("connect_list_all_domains", need_results=1, flags=1 << 30) is None


def test_lists_follow_every_change() -> None:
    view = view_of("a")
    assert ask("connect_list_all_domains", view, need_results=1, flags=0).ret == 1
    view.put(uuid_of("b"), "b", 1, summary(id=1))
    assert ask("connect_list_all_domains", view, need_results=1, flags=0).ret == 2
    assert ask("connect_num_of_domains", view).num == 1
    assert ask("connect_num_of_defined_domains", view).num == 1
    view.drop(uuid_of("a"))
    assert ask("connect_list_all_domains", view, need_results=1, flags=0).ret == 1


def test_too_many_for_a_list_is_left_to_the_driver_but_their_number_is_not() -> None:
    view = DomainView()
    for number in range(16385):
        view.put(number.to_bytes(16, "big"), str(number), 1, summary())
    assert ask("connect_list_all_domains", view, need_results=1, flags=0) is None
    assert ask("connect_list_all_domains", view, need_results=0, flags=0).ret == 16385


def xml_payload(name: str, flags: int) -> bytes:
    row = need_procedure("domain_get_xml_desc")
    return args_codec(row).encode(args_struct(row)(dom=dom(name), flags=flags))


def keep(view: DomainView, name: str, flags: int, text: str) -> None:
    known, end = find_domain(view, xml_payload(name, flags))
    assert known is not None
    view.keep_xml(known, xml_payload(name, flags)[end:], xdr_text(text))


def test_document_is_kept_for_its_flags_until_the_guest_changes() -> None:
    view = view_of("a")
    assert ask("domain_get_xml_desc", view, dom=dom("a"), flags=2) is None
    keep(view, "a", 2, "<domain/>")
    assert ask("domain_get_xml_desc", view, dom=dom("a"), flags=2).xml == "<domain/>"
    assert ask("domain_get_xml_desc", view, dom=dom("a"), flags=0) is None
    view.put(uuid_of("a"), "a", 1, summary())
    assert ask("domain_get_xml_desc", view, dom=dom("a"), flags=2).xml == "<domain/>"
    view.put(uuid_of("a"), "a", 2, summary())
    assert ask("domain_get_xml_desc", view, dom=dom("a"), flags=2) is None
    assert view.xml_bytes == 0


def test_document_of_a_guest_that_changed_meanwhile_is_not_kept() -> None:
    view = view_of("a")
    known, _ = find_domain(view, xml_payload("a", 0))
    assert known is not None
    view.put(uuid_of("a"), "a", 2, summary())
    view.keep_xml(known, bytes(4), xdr_text("<old/>"))
    assert ask("domain_get_xml_desc", view, dom=dom("a"), flags=0) is None


def test_kept_documents_are_bounded() -> None:
    view = view_of("a", "b")
    keep(view, "a", 0, "x" * (XML_BYTES_MAX // 2))
    keep(view, "b", 0, "x" * (XML_BYTES_MAX // 2))
    assert view.xml_bytes <= XML_BYTES_MAX
    assert ask("domain_get_xml_desc", view, dom=dom("a"), flags=0) is None


@pytest.mark.parametrize("name", sorted(READERS))
@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 4, b"\xff" * 40, bytes(40)])
def test_garbage_is_left_to_the_slow_path(name: str, payload: bytes) -> None:
    answer = READERS[name](whole(VIEW), payload)
    assert answer is None or (payload == b"" and not need_procedure(name).args)


def test_the_version_of_the_library_needs_no_driver() -> None:
    assert ask("connect_get_lib_version").lib_ver == 9_000_000


def test_nothing_is_said_of_the_state_while_the_driver_is_given_up() -> None:
    row = need_procedure("domain_get_state")
    payload = args_codec(row).encode(args_struct(row)(dom=dom("web1"), flags=0))
    assert read_unknown(row.name, whole(VIEW), payload) == struct.pack(">ii", 0, 0)
    by_name = need_procedure("domain_lookup_by_name")
    payload = args_codec(by_name).encode(args_struct(by_name)(name="web1"))
    assert result_codec(by_name).decode(read_unknown(by_name.name, whole(VIEW), payload) or b"").dom == dom("web1", 5)
    assert read_unknown(by_name.name, whole(VIEW), xdr_text("nobody")) is None
