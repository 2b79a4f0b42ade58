from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.runtime.actor import Actor
from actors.runtime.calls import Calls, Handler, combine
from actors.runtime.derived.newer import DERIVATIONS, derive
from actors.runtime.derived.shorter import SHORTENINGS, shorten
from actors.runtime.derived.table import derived_handlers
from schema.body import args_struct
from schema.objects import DomainRef, DomainSnapshotRef, InterfaceRef, StoragePoolRef, StorageVolRef
from schema.table import all_procedures, need_procedure


def table_of(function: Any, **how: Any) -> Calls[Any]:
    calls: Calls[Any] = Calls()
    calls.handles(**how)(function)
    return calls


def test_a_misspelt_handler_is_refused_at_import() -> None:
    async def domain_suspnd(host: Any, dom: DomainRef) -> None: ...

    with pytest.raises(TypeError, match="'domain_suspnd' is not a procedure"):
        table_of(domain_suspnd)


def test_a_wrong_argument_name_is_refused_at_import() -> None:
    async def domain_suspend(host: Any, domain: DomainRef) -> None: ...

    with pytest.raises(TypeError, match="'domain_suspend' has no argument 'domain', it has dom"):
        table_of(domain_suspend)


def test_a_missing_argument_is_refused_at_import() -> None:
    async def domain_suspend(host: Any) -> None: ...

    with pytest.raises(TypeError, match="does not take its argument 'dom'"):
        table_of(domain_suspend)


def test_an_argument_that_is_a_keyword_gets_an_underscore() -> None:
    async def domain_restore(host: Any, from_: str) -> None: ...

    (handler,) = table_of(domain_restore)
    args = args_struct(handler.procedure)(**{"from": "/file"})
    assert handler.arguments(args) == ["/file"]


def test_a_result_that_the_procedure_has_not_is_refused_at_import() -> None:
    async def domain_restore_flags(host: Any, from_: str, dxml: str | None, flags: int) -> DomainRef: ...  # type: ignore[empty-body]

    with pytest.raises(TypeError, match="'domain_restore_flags' returns DomainRef, but the procedure returns nothing"):
        table_of(domain_restore_flags)

    async def domain_create_with_flags(host: Any, dom: DomainRef, flags: int) -> None: ...

    with pytest.raises(TypeError, match="has to return its 'dom'"):
        table_of(domain_create_with_flags)


def test_the_same_procedure_twice_is_refused() -> None:
    async def domain_suspend(host: Any, dom: DomainRef) -> None: ...

    calls = table_of(domain_suspend)
    with pytest.raises(TypeError, match="twice"):
        calls.handles()(domain_suspend)
    with pytest.raises(TypeError, match="domain_suspend"):
        combine((calls, table_of(domain_suspend)))
    with pytest.raises(TypeError, match="domain_suspend"):

        class Doubled(Actor[Any]):
            calls = (table_of(domain_suspend), table_of(domain_suspend))


def test_a_plain_function_has_no_mailbox() -> None:
    def domain_suspend(host: Any, dom: DomainRef) -> None: ...

    with pytest.raises(TypeError, match="has to be a coroutine"):
        table_of(domain_suspend, key="dom")


def key_of(name: str, key: str, **args: Any) -> Any:
    procedure = need_procedure(name)
    names = ", ".join(f"{f.name}=None" for f in procedure.args)
    space: dict[str, Any] = {}
    exec(f"async def {name}(host, {names}): ...", space)
    (handler,) = table_of(space[name], key=key)
    assert handler.key_of is not None
    blank = {f.name: None for f in procedure.args}
    return handler.key_of(args_struct(procedure)(**{**blank, **args}))


def test_the_mailbox_is_that_of_the_object() -> None:
    dom = DomainRef("a", b"u" * 16)
    assert key_of("domain_suspend", "dom", dom=dom) == ("domain", b"u" * 16)
    assert key_of("domain_snapshot_delete", "snap", snap=DomainSnapshotRef("s", dom)) == ("domain", b"u" * 16)
    assert key_of("interface_create", "iface", iface=InterfaceRef("eth0", "")) == ("interface", "eth0")
    assert key_of("storage_vol_delete", "vol", vol=StorageVolRef("p", "v", "k")) == ("storage_pool_name", "p")
    assert key_of("domain_lookup_by_uuid", "uuid", uuid=b"x" * 16) == ("domain", b"x" * 16)
    assert key_of("domain_define_xml", "xml", xml="<domain/>") == ("name", "<domain/>")


def test_what_can_be_absent_is_no_key() -> None:
    async def connect_open(host: Any, name: str | None, flags: int) -> None: ...

    with pytest.raises(TypeError, match="no key"):
        table_of(connect_open, key="name")


def stub_of(name: str) -> Handler:
    procedure = need_procedure(name)
    names = ", ".join(f"{f.name}_" if f.name in ("from",) else f.name for f in procedure.args)
    space: dict[str, Any] = {}
    exec(f"async def {name}(host, {names}): return ({names},)", space)
    (handler,) = table_of(space[name])
    return handler


@pytest.mark.parametrize("name", sorted(DERIVATIONS))
def test_each_older_call_fits_the_newer_one(name: str) -> None:
    derivation = DERIVATIONS[name]
    handler = derive(name, derivation, stub_of(derivation.newer))
    own = {field.name for field in need_procedure(name).args}
    newer = {field.name for field in need_procedure(derivation.newer).args}
    assert set(handler.names) == own & newer == own
    assert {field for field in newer if field not in own} == set(derivation.added)


async def test_a_derived_call_hands_on_its_arguments() -> None:
    handler = derive("domain_save", DERIVATIONS["domain_save"], stub_of("domain_save_flags"))
    dom = DomainRef("a", b"u" * 16)
    values = handler.arguments(args_struct(handler.procedure)(dom=dom, to="/f"))
    assert await handler.function(None, *values) == (dom, "/f", None, 0)


def test_what_a_driver_handles_itself_goes_first() -> None:
    def connect_get_uri(host: Any) -> str:
        return "mine"

    own = combine((table_of(connect_get_uri),))
    assert derived_handlers(own, ())["connect_get_uri"].function is connect_get_uri
    assert "connect_list_all_domains" not in derived_handlers(own, ())
    assert "connect_list_all_domains" in derived_handlers(own, ("domain",))
    with pytest.raises(TypeError, match="unicorn"):
        derived_handlers(own, ("unicorn",))


def test_every_derived_read_is_a_read() -> None:
    types = ("domain", "network", "storage_pool", "interface", "node_device", "secret", "nwfilter")
    handlers = derived_handlers({}, types)
    assert all(handler.procedure.is_read for handler in handlers.values())
    assert set(handlers) <= {procedure.name for procedure in all_procedures()}


@pytest.mark.parametrize("name", sorted(SHORTENINGS))
async def test_counts_and_names_follow_from_the_list(name: str) -> None:
    how = SHORTENINGS[name]
    pool, dom = StoragePoolRef("p", b"p" * 16), DomainRef("a", b"u" * 16)
    found: list[Any] = [StorageVolRef("p", n, n) for n in ("x", "y", "z")]

    async def listed(host: Any, *values: Any) -> dict[str, Any]:
        assert dict(zip(whole.names, values, strict=True))["need_results"] == 1
        return {"found": found, "ret": 3}

    whole = replace(stub_of(how.whole), function=listed, key=need_procedure(how.whole).args[0].name)
    handler = shorten(name, how, whole)
    given = {"pool": pool, "dom": dom, "snap": DomainSnapshotRef("s", dom), "maxnames": 2, "flags": 0}
    args = args_struct(handler.procedure)(**{f.name: given[f.name] for f in handler.procedure.args})
    result = await handler.function(None, *handler.arguments(args))
    assert result == (3 if how.counts else ["x", "y"])
    assert handler.key_of is not None
    assert handler.key_of(args)[0] in ("domain", "storage_pool")
