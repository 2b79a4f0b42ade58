"""Counts and names as parts of a list: `domain_snapshot_num` is the length of `domain_list_all_snapshots`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from actors.runtime.calls import Handler, key_of_argument
from schema.table import need_procedure


class Shortening(NamedTuple):
    """The list that a call is a part of; `renamed` are its arguments that have another name there."""

    whole: str
    counts: bool
    added: Mapping[str, Any] = {}
    renamed: Mapping[str, str] = {}


_CHILDREN: Final = {"snap": "snapshot"}

SHORTENINGS: Final[dict[str, Shortening]] = {
    "storage_pool_num_of_volumes": Shortening("storage_pool_list_all_volumes", True, {"flags": 0}),
    "storage_pool_list_volumes": Shortening("storage_pool_list_all_volumes", False, {"flags": 0}),
    "domain_snapshot_num": Shortening("domain_list_all_snapshots", True),
    "domain_snapshot_list_names": Shortening("domain_list_all_snapshots", False),
    "domain_snapshot_num_children": Shortening("domain_snapshot_list_all_children", True, {}, _CHILDREN),
    "domain_snapshot_list_children_names": Shortening("domain_snapshot_list_all_children", False, {}, _CHILDREN),
}


def shorten(name: str, how: Shortening, whole: Handler) -> Handler:
    """The handler of a count, or of names, by the handler of the whole list."""
    procedure = need_procedure(name)
    names = tuple(field.name for field in procedure.args)
    limit = names.index("maxnames") if "maxnames" in names else None

    def arguments(values: tuple[Any, ...]) -> list[Any]:
        given = {how.renamed.get(n, n): value for n, value in zip(names, values, strict=True)}
        given |= {"need_results": 1, **how.added}
        return [given[n] for n in whole.names]

    def short(result: Any, values: tuple[Any, ...]) -> Any:
        found = _list_of(result)
        if how.counts:
            return len(found)
        most = len(found) if limit is None else max(0, values[limit])
        return [ref.name for ref in found[:most]]

    def answer_at_once(host: Any, *values: Any) -> Any:
        return short(whole.function(host, *arguments(values)), values)

    async def answer(host: Any, *values: Any) -> Any:
        return short(await whole.function(host, *arguments(values)), values)

    own_key = next((n for n in names if how.renamed.get(n, n) == whole.key), None)
    key_of = None if own_key is None else key_of_argument(procedure, own_key)
    function = answer_at_once if whole.is_plain else answer
    return Handler(procedure, function, names, own_key, whole.lane, key_of, whole.is_plain)


def _list_of(result: Any) -> list[Any]:
    if isinstance(result, Mapping):
        return next(value for value in result.values() if isinstance(value, list))
    found: list[Any] = result
    return found
