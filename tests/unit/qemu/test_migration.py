"""What two sides of a migration say to each other, without either: parameters, cookies, addresses, QEMU's settings."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
import pytest

from actors.qemu.capabilities.model import Capabilities
from actors.qemu.guest import Guest
from actors.qemu.job import Job, job_parameters
from actors.qemu.migration.checks import check_addresses, check_flags_together, check_rdma, filesystem_of
from actors.qemu.migration.cookie import check_cookie, nbd_part, nbd_sizes, own_cookie, read_cookie, write_cookie
from actors.qemu.migration.outcome import arrival_of, statistics_of
from actors.qemu.migration.parameters import (
    MigrationParameters,
    read_migration_parameters,
    write_migration_parameters,
)
from actors.qemu.migration.settings import capabilities_of, check_settings, parameters_of
from actors.qemu.migration.source import qemu_uri
from actors.qemu.migration.tls import check_destination
from actors.qemu.records import Facts, Move, Record, Run, decode, encode
from conf.document import parse_document
from conf.domain.domain import Domain
from conf.flags import ParseFlags
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import (
    ArgumentUnsupported,
    DomainStateError,
    InternalError,
    InvalidArguments,
    OperationUnsupported,
)
from schema.objects import TypedParam

IDENTITY = uuid.UUID("0c0ffee0-1111-4222-8333-444444444444")
XML = (
    f"<domain type='qemu'><name>web</name><uuid>{IDENTITY}</uuid><memory unit='KiB'>65536</memory>"
    "<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
)


def definition() -> Domain:
    return Domain.parse(parse_document(XML, name="domain_definition", root="domain"), ParseFlags.INACTIVE)


def guest() -> Guest:
    return Guest(Record(str(IDENTITY), "web", Facts()), "qemu:///system")


def test_parameters_go_there_and_back() -> None:
    params = [
        TypedParam.of_string("destination_name", "other"),
        TypedParam.of_string("migrate_uri", "tcp://host"),
        TypedParam.of_ullong("bandwidth", 32),
        TypedParam.of_int("parallel.connections", 4),
        TypedParam.of_string("migrate_disks", "vda"),
        TypedParam.of_string("migrate_disks", "vdb"),
        TypedParam.of_string("compression", "xbzrle"),
    ]
    values = read_migration_parameters(params)
    assert (values.dname, values.bandwidth, values.channels, values.disks) == ("other", 32, 4, ["vda", "vdb"])
    assert write_migration_parameters(values) == params


@pytest.mark.parametrize(
    ("param", "error", "words"),
    [
        (TypedParam.of_string("nosuch", "x"), ArgumentUnsupported, "parameter 'nosuch' not supported"),
        (TypedParam.of_string("bandwidth", "x"), InvalidArguments, "invalid type 'string' for parameter 'bandwidth'"),
        (TypedParam.of_string("compression", "x"), InvalidArguments, "Unsupported compression method 'x'"),
        (TypedParam.of_int("migrate_disks", 1), InvalidArguments, "expected 'string'"),
    ],
)
def test_parameters_that_are_none(param: TypedParam, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_migration_parameters([param])


def test_a_parameter_that_is_said_twice() -> None:
    with pytest.raises(InvalidArguments, match="occurs multiple times"):
        read_migration_parameters([TypedParam.of_ullong("bandwidth", 1)] * 2)


def test_cookies_name_the_guest_and_a_host_of_its_own() -> None:
    here, there = Path("/state/a"), Path("/state/b")
    cookie = own_cookie(definition(), "web", here)
    cookie.nbd = nbd_part(10809, {"vda": 4096})
    data = write_cookie(cookie)
    assert data.endswith((b"</qemu-migration>\n\0", b"</qemu-migration>\0"))
    again = read_cookie(data)
    assert again is not None and again.uuid == IDENTITY and nbd_sizes(again) == {"vda": 4096}
    assert check_cookie(data, definition(), there) is not None
    with pytest.raises(InternalError, match="Attempt to migrate guest to the same host"):
        check_cookie(data, definition(), here)
    other = definition()
    other.name = "db"
    with pytest.raises(InternalError, match="unexpected name"):
        check_cookie(data, other, there)
    assert read_cookie(b"") is None and read_cookie(b"\0") is None
    with pytest.raises(InternalError, match="not NULL terminated"):
        read_cookie(data[:-1])
    with pytest.raises(InternalError, match="not UTF-8"):
        read_cookie(b"\xff\xfe\0")


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("tcp:host:49152", "tcp:host:49152"),
        ("tcp://[::1]:49152", "tcp:[::1]:49152"),
        ("rdma://host:49152", "rdma:host:49152"),
        ("unix:///run/m.sock", "unix:/run/m.sock"),
        ("unix:/run/m.sock", "unix:/run/m.sock"),
    ],
)
def test_addresses(uri: str, wanted: str) -> None:
    assert qemu_uri(uri) == wanted


@pytest.mark.parametrize("uri", ["", "tcp://host", "rdma://host", "http://host:1", "unix:"])
def test_addresses_that_are_none(uri: str) -> None:
    with pytest.raises(InvalidArguments, match="unable to parse URI"):
        qemu_uri(uri)


@pytest.mark.parametrize(
    ("params", "flags", "words"),
    [
        (MigrationParameters(xbzrle_cache=1 << 20, compression=["mt"]), 0, "Turn xbzrle compression on to tune it"),
        (MigrationParameters(xbzrle_cache=1 << 20), 0, "Turn xbzrle compression on to tune it"),
        (MigrationParameters(compress_level=3), int(Flags.COMPRESSED), "Turn multithread compression on to tune it"),
        (MigrationParameters(throttle_initial=20), 0, "Turn auto convergence on to tune it"),
        (MigrationParameters(channels=2), 0, "Turn parallel migration on to tune it"),
    ],
)
def test_settings_of_what_is_not_asked_for(params: MigrationParameters, flags: int, words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        check_settings(params, flags)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC, InvalidArguments),
        (Flags.TUNNELLED, InvalidArguments),
        (Flags.OFFLINE, DomainStateError),
        (Flags.TUNNELLED | Flags.PEER2PEER | Flags.TLS, ArgumentUnsupported),
        (Flags.TUNNELLED | Flags.PEER2PEER | Flags.NON_SHARED_DISK, ArgumentUnsupported),
        (Flags.POSTCOPY, ArgumentUnsupported),
        (Flags.POSTCOPY | Flags.LIVE | Flags.PAUSED, ArgumentUnsupported),
        (Flags.POSTCOPY_RESUME, InvalidArguments),
        (Flags.POSTCOPY_RESUME | Flags.POSTCOPY | Flags.LIVE, InvalidArguments),
        (Flags.ZEROCOPY, DomainStateError),
        (Flags.TUNNELLED | Flags.PEER2PEER | Flags.PARALLEL, ArgumentUnsupported),
    ],
)
def test_flags_that_do_not_go_together(flags: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_flags_together(int(flags))


def test_addresses_that_do_not_go_together() -> None:
    unix, disks = "unix:///m.sock", int(Flags.NON_SHARED_DISK)
    for params, flags, error in (
        (MigrationParameters(uri=unix, listen="::1"), 0, InvalidArguments),
        (MigrationParameters(uri=unix), disks, InvalidArguments),
        (MigrationParameters(disks_uri="unix:///d.sock", disks_port=1), disks, InvalidArguments),
        (MigrationParameters(uri=unix, disks_uri="unix:///d.sock"), disks | int(Flags.TLS), OperationUnsupported),
        (MigrationParameters(uri="tcp://host"), int(Flags.TUNNELLED), ArgumentUnsupported),
    ):
        with pytest.raises(error):
            check_addresses(params, flags)
    check_addresses(MigrationParameters(uri=unix, disks_uri="unix:///d.sock"), disks)
    with pytest.raises(InvalidArguments, match="Explicit destination hostname"):
        check_destination(MigrationParameters(), unix, int(Flags.TLS))
    check_destination(MigrationParameters(tls_destination="there"), unix, int(Flags.TLS))


def test_rdma_is_for_guests_with_a_limit() -> None:
    cannot = Capabilities("", (8, 0, 0), "", "x86_64", False, (), {}, frozenset())
    can = msgspec.structs.replace(cannot, flags=frozenset({"migrate-rdma"}))
    with pytest.raises(OperationUnsupported, match="outgoing RDMA migration is not supported"):
        check_rdma(definition(), "rdma://host:1", cannot, incoming=False)
    with pytest.raises(DomainStateError, match="no memory hard limit set"):
        check_rdma(definition(), "rdma:[::]:1", can, incoming=True)
    check_rdma(definition(), "tcp:host:1", cannot, incoming=False)


def test_what_qemu_is_told() -> None:
    params = MigrationParameters(bandwidth=10, channels=4, throttle_initial=30)
    flags = int(Flags.PARALLEL | Flags.AUTO_CONVERGE)
    told = capabilities_of(params, flags, incoming=False)
    assert told["multifd"] and told["auto-converge"] and not told["postcopy-ram"] and not told["xbzrle"]
    assert not capabilities_of(params, flags, incoming=True)["auto-converge"]
    numbers = parameters_of(guest(), params, flags, incoming=False)
    assert numbers["max-bandwidth"] == 10 << 20 and numbers["multifd-channels"] == 4
    assert numbers["cpu-throttle-initial"] == 30 and numbers["multifd-compression"] == "none"
    assert "max-bandwidth" not in parameters_of(guest(), params, flags, incoming=True)
    # no limit is as much as QEMU can be told, which a saved guest may have changed before
    assert parameters_of(guest(), MigrationParameters(), 0, incoming=False)["max-bandwidth"] > 1 << 60


def test_how_far_a_guest_is_survives_its_driver() -> None:
    move = Move("out", "sent", flags=5, ran=True, peer="qemu+tls://there/system", name="web", uri="tcp:there:49152")
    run = Run(1, 2, 3, "boot", "/run/f", "/usr/bin/qemu", XML, Facts(), 3, 2, 0.0, 0.0, move=move)
    record = Record(str(IDENTITY), "web", Facts(), run=run)
    again = decode(encode(record))
    assert again.run is not None and again.run.move == move


def test_file_systems_of_this_host_alone(tmp_path: Path) -> None:
    assert filesystem_of(str(tmp_path)) is None
    assert filesystem_of(str(tmp_path / "absent")) is None


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (MigrationParameters(disks_uri="http://there"), "Unsupported scheme in disks URI: http"),
        (MigrationParameters(disks_port=70000), "nbd port must be in range 0-65535"),
    ],
)
def test_disks_that_cannot_be_sent_there(params: MigrationParameters, words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        check_addresses(params, int(Flags.NON_SHARED_DISK))


def test_what_only_the_source_does_is_no_fault_at_the_destination() -> None:
    params = MigrationParameters(throttle_initial=30)
    check_settings(params, 0, incoming=True)
    assert "cpu-throttle-initial" not in parameters_of(guest(), params, 0, incoming=True)
    with pytest.raises(InvalidArguments, match="Turn auto convergence on"):
        check_settings(params, 0)


def test_what_the_network_took_is_told_apart() -> None:
    job = Job(Operation.MIGRATION_OUT, "", status={"status": "completed", "downtime": 3})
    job.ended_ms, job.delta_ms = 12, 4
    told = {one.field: one.value for one in job_parameters(job)}
    assert told["time_elapsed_net"] == 8 and "downtime_net" not in told and told["disk_total"] == 0


def test_how_it_went_is_told_where_it_arrived() -> None:
    ram = {"total": 9, "transferred": 7, "remaining": 0, "duplicate": 1, "normal": 2, "mbps": 8.0, "page-size": 4096}
    job = Job(Operation.MIGRATION_OUT, "", status={"status": "completed", "downtime": 3, "setup-time": 1, "ram": ram})
    job.ended_ms = 12
    there = arrival_of(statistics_of(job))
    assert there.operation is Operation.MIGRATION_IN and there.elapsed_ms == 12
    mine = {one.field: one.value for one in job_parameters(job)}
    assert there.delta_ms is not None and there.delta_ms >= 0
    theirs = {one.field: one.value for one in job_parameters(there) if not one.field.endswith("_net")}
    assert theirs == mine | {"operation": 4, "memory_dirty_rate": 0}
