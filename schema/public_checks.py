"""What libvirt's public functions refuse before they ask a driver: the same for all drivers, in their order.

An error carries the public function as `str1` and the argument as `str2`, and comes from the part of the API that the
function belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from schema.api_parts import domain_of_function
from schema.enums.domain import DomainModificationImpact as Impact
from schema.enums.domain import DomainSaveRestoreFlags as Save
from schema.errors import InvalidArguments
from schema.model import Procedure

Args = Any
Rule = Callable[[str, Args], InvalidArguments | None]
"""The public function's name and the arguments in, the refusal out."""

_TITLE: Final = 1
_ELEMENT: Final = 2
_DUMP_FORMATS: Final = 5
_CODESETS: Final = 10
_KEYS_MAX: Final = 16
_LIFECYCLE_TYPES: Final = 3
_LIFECYCLE_ACTIONS: Final = 6
_GUEST_VCPUS: Final = 8
_MAXIMUM: Final = 4


def _refusal(function: str, argument: str, message: str) -> InvalidArguments:
    error = InvalidArguments(domain=domain_of_function(function), int1=0, int2=0)
    error.message, error.str1, error.str2 = message, function, argument
    return error


def _rule(words: str, is_wrong: Callable[[Any], bool]) -> Callable[..., Rule]:
    """Makes rules for one argument, which libvirt may call by another name."""

    def make(argument: str, name: str | None = None, *, when: Callable[[Args], bool] | None = None) -> Rule:
        def rule(function: str, args: Args) -> InvalidArguments | None:
            if (when is None or when(args)) and is_wrong(getattr(args, argument)):
                return _refusal(function, name or argument, words.format(name or argument, function))
            return None

        return rule

    return make


_given: Final = _rule("{} in {} must not be NULL", lambda value: value is None or value in ([], b"", 0))
_absent: Final = _rule("{} in {} must be NULL", lambda value: value is not None)
_nonzero: Final = _rule("{} in {} must not be zero", lambda value: not value)
_nonnegative: Final = _rule("{} in {} must be zero or greater", lambda value: value < 0)
_positive: Final = _rule("{} in {} must be greater than zero", lambda value: value <= 0)
_filled: Final = _rule("string {} in {} must not be empty", lambda value: value == "")
_number: Final = _rule("{} in {} only accepts -1 as a negative value", lambda value: value < -1)


def _apart(prefix: str, first: tuple[str, int], second: tuple[str, int]) -> Rule:
    message = f"Flags '{prefix}{first[0]}' and '{prefix}{second[0]}' are mutually exclusive"

    def rule(function: str, args: Args) -> InvalidArguments | None:
        flags = args.flags
        return _refusal(function, "ctl", message) if flags & first[1] and flags & second[1] else None

    return rule


def _needs(flag: tuple[str, int], other: tuple[str, int]) -> Rule:
    message = f"Flag '{other[0]}' is required by flag '{flag[0]}'"

    def rule(function: str, args: Args) -> InvalidArguments | None:
        flags = args.flags
        return _refusal(function, "ctl", message) if flags & flag[1] and not flags & other[1] else None

    return rule


def _custom(argument: str, words: str, is_wrong: Callable[[Args], bool], shown: Callable[[Args], Any] = int) -> Rule:
    def rule(function: str, args: Args) -> InvalidArguments | None:
        return _refusal(function, argument, words.format(shown(args))) if is_wrong(args) else None

    return rule


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


def _lifecycle(argument: str, count: int) -> Rule:
    def rule(function: str, args: Args) -> InvalidArguments | None:
        value = getattr(args, argument)
        if value < count:
            return None
        return InvalidArguments(f"invalid lifecycle {argument} '{value}'", domain=domain_of_function(function))

    return rule


_ONE_STATE: Final = _apart("VIR_DOMAIN_AFFECT_", ("LIVE", Impact.LIVE), ("CONFIG", Impact.CONFIG))
_ONE_SAVE: Final = _apart("VIR_DOMAIN_SAVE_", ("RUNNING", Save.RUNNING), ("PAUSED", Save.PAUSED))
_DUMP: Final = (
    _apart("VIR_DUMP_", ("CRASH", 1), ("LIVE", 2)),
    _apart("VIR_DUMP_", ("CRASH", 1), ("RESET", 8)),
    _apart("VIR_DUMP_", ("LIVE", 2), ("RESET", 8)),
)
_PARAMS: Final = _given("params")
_CPUMAP: Final = _given("cpumap")


_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "connect_baseline_cpu": (_given("xmlCPUs"),),
    "connect_baseline_hypervisor_cpu": (_given("xmlCPUs"),),
    "domain_authorized_ssh_keys_set": (
        _given("keys", when=lambda args: bool(args.flags & 3)),
        _apart("VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_", ("APPEND", 1), ("REMOVE", 2)),
    ),
    "domain_checkpoint_create_xml": (
        _needs(("VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE", 4), ("VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE", 1)),
        _apart("VIR_DOMAIN_CHECKPOINT_CREATE_", ("REDEFINE", 1), ("QUIESCE", 2)),
    ),
    "domain_checkpoint_delete": (_apart("VIR_DOMAIN_CHECKPOINT_DELETE_", ("CHILDREN", 1), ("CHILDREN_ONLY", 4)),),
    "domain_core_dump": _DUMP,
    "domain_core_dump_with_format": (
        _custom(
            "flags",
            "dumpformat '{}' is not supported",
            lambda args: args.dumpformat >= _DUMP_FORMATS,
            lambda args: _signed(args.dumpformat),
        ),
        *_DUMP,
    ),
    "domain_del_iothread": (_nonzero("iothread_id"),),
    "domain_get_blkio_parameters": (_ONE_STATE,),
    "domain_get_block_info": (_filled("path", "disk"),),
    "domain_get_block_io_tune": (_given("disk", when=lambda args: args.nparams != 0), _ONE_STATE),
    "domain_get_cpu_stats": (
        _custom(
            "start_cpu",
            "ncpus must be 1 when start_cpu is -1",
            lambda args: args.start_cpu == -1 and args.ncpus != 1,
            lambda args: 0,
        ),
        _nonnegative("start_cpu", when=lambda args: args.start_cpu != -1),
        _given("ncpus", "params", when=lambda args: args.nparams != 0),
    ),
    "domain_get_emulator_pin_info": (_given("maplen", "cpumap"), _positive("maplen", "cpumaplen"), _ONE_STATE),
    "domain_get_iothread_info": (_ONE_STATE,),
    "domain_get_job_stats": (
        _needs(("VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED", 2), ("VIR_DOMAIN_JOB_STATS_COMPLETED", 1)),
    ),
    "domain_get_memory_parameters": (_ONE_STATE,),
    "domain_get_metadata": (
        _ONE_STATE,
        _absent("uri", when=lambda args: args.type in (0, _TITLE)),
        _given("uri", when=lambda args: args.type == _ELEMENT),
    ),
    "domain_get_scheduler_parameters": (_given("nparams", "params"),),
    "domain_get_scheduler_parameters_flags": (_given("nparams", "params"), _ONE_STATE),
    "domain_get_vcpu_pin_info": (
        _positive("ncpumaps"),
        _given("maplen", "cpumaps"),
        _positive("maplen"),
        _ONE_STATE,
    ),
    "domain_get_vcpus": (_given("maxinfo", "info"),),
    "domain_get_vcpus_flags": (_ONE_STATE,),
    "domain_lookup_by_id": (_nonnegative("id"),),
    "domain_managed_save": (_ONE_SAVE,),
    "domain_managed_save_define_xml": (_ONE_SAVE,),
    "domain_memory_peek": (_apart("VIR_MEMORY_", ("VIRTUAL", 1), ("PHYSICAL", 2)),),
    "domain_pin_emulator": (_CPUMAP,),
    "domain_pin_iothread": (_CPUMAP,),
    "domain_pin_vcpu": (_CPUMAP,),
    "domain_pin_vcpu_flags": (_CPUMAP,),
    "domain_rename": (_given("new_name"), _filled("new_name")),
    "domain_restore_flags": (_ONE_SAVE,),
    "domain_restore_params": (_ONE_SAVE,),
    "domain_revert_to_snapshot": (_apart("VIR_DOMAIN_SNAPSHOT_REVERT_", ("RUNNING", 1), ("PAUSED", 2)),),
    "domain_save_flags": (_ONE_SAVE,),
    "domain_save_image_define_xml": (_ONE_SAVE,),
    "domain_save_params": (_ONE_SAVE,),
    "domain_send_key": (
        _given("keycodes"),
        _custom(
            "codeset",
            "Unsupported codeset '{}'",
            lambda args: args.codeset >= _CODESETS,
            lambda args: _signed(args.codeset),
        ),
    ),
    "domain_send_process_signal": (_nonzero("pid_value"),),
    "domain_set_blkio_parameters": (_PARAMS,),
    "domain_set_block_io_tune": (
        _custom(
            "nparams",
            "nparams in virDomainSetBlockIoTune must be greater than zero",
            lambda args: not args.params,
            lambda args: 0,
        ),
    ),
    "domain_set_interface_parameters": (_PARAMS,),
    "domain_set_iothread_params": (_PARAMS,),
    "domain_set_launch_security_state": (_PARAMS,),
    "domain_set_lifecycle_action": (
        _lifecycle("type", _LIFECYCLE_TYPES),
        _lifecycle("action", _LIFECYCLE_ACTIONS),
    ),
    "domain_set_max_memory": (_nonzero("memory"),),
    "domain_set_memory": (_nonzero("memory"),),
    "domain_set_memory_flags": (_nonzero("memory"),),
    "domain_set_memory_parameters": (_PARAMS,),
    "domain_set_memory_stats_period": (_nonnegative("period"),),
    "domain_set_metadata": (
        _custom(
            "metadata",
            "metadata title can't contain newlines",
            lambda args: args.type == _TITLE and "\n" in (args.metadata or ""),
            lambda args: 0,
        ),
        _absent("uri", when=lambda args: args.type in (0, _TITLE)),
        _absent("key", when=lambda args: args.type in (0, _TITLE)),
        _given("uri", when=lambda args: args.type == _ELEMENT),
        _given("key", when=lambda args: args.type == _ELEMENT and args.metadata is not None),
    ),
    "domain_set_numa_parameters": (_PARAMS,),
    "domain_set_perf_events": (_PARAMS,),
    "domain_set_scheduler_parameters": (_PARAMS,),
    "domain_set_scheduler_parameters_flags": (_PARAMS,),
    "domain_set_user_password": (_given("user"), _given("password")),
    "domain_set_vcpus": (_nonzero("nvcpus"),),
    "domain_set_vcpus_flags": (
        _needs(("VIR_DOMAIN_VCPU_MAXIMUM", _MAXIMUM), ("VIR_DOMAIN_AFFECT_CONFIG", Impact.CONFIG)),
        _apart("VIR_DOMAIN_", ("VCPU_GUEST", _GUEST_VCPUS), ("AFFECT_CONFIG", Impact.CONFIG)),
        _nonzero("nvcpus"),
    ),
    "domain_snapshot_create_xml": (
        _needs(("VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT", 2), ("VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE", 1)),
        _apart("VIR_DOMAIN_SNAPSHOT_CREATE_", ("REDEFINE", 1), ("NO_METADATA", 4)),
        _apart("VIR_DOMAIN_SNAPSHOT_CREATE_", ("REDEFINE", 1), ("HALT", 8)),
    ),
    "domain_snapshot_delete": (_apart("VIR_DOMAIN_SNAPSHOT_DELETE_", ("CHILDREN", 1), ("CHILDREN_ONLY", 4)),),
    "node_alloc_pages": (
        _nonzero("pageSizes", "npages"),
        _given("pageCounts"),
        _nonzero("cellCount"),
    ),
    "node_get_cells_free_memory": (_positive("maxcells", "maxCells"), _nonnegative("startCell")),
    "node_get_cpu_stats": (_number("cpuNum"),),
    "node_get_free_pages": (_nonzero("pages", "npages"), _nonzero("cellCount")),
    "node_get_memory_stats": (
        _custom(
            "cpuNum",
            "cellNum in virNodeGetMemoryStats only accepts -1 as a negative value",
            lambda args: args.cellNum < -1,
            lambda args: 0,
        ),
    ),
    "node_set_memory_parameters": (_PARAMS,),
    "secret_set_value": (_given("value"),),
    "storage_vol_resize": (
        _custom(
            "capacity",
            "capacity in virStorageVolResize cannot be zero without 'delta' or 'shrink' flags set",
            lambda args: args.capacity == 0 and not args.flags & 6,
            lambda args: 0,
        ),
    ),
}


def public_check(procedure: Procedure) -> Callable[[Args], None] | None:
    """What raises InvalidArguments for arguments that no driver is asked about; None where there are none such."""
    rules = _RULES.get(procedure.name)
    if rules is None:
        return None
    function = procedure.function

    def check(args: Args) -> None:
        for rule in rules:
            error = rule(function, args)
            if error is not None:
                raise error

    return check
