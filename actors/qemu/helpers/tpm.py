"""A guest's emulated TPM: what it keeps, made at the first start, and the program that is it while the guest runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.qemu.helpers.logs import log_of, trim
from actors.qemu.helpers.processes import Helper, Role, listens, spawn_helper, until_ready
from actors.qemu.helpers.tpm_programs import TpmPrograms
from actors.qemu.host import QemuHost
from conf.domain.chardev_users import PcrBanks, Tpm
from conf.domain.domain import Domain
from schema.errors import ArgumentUnsupported, ConfigUnsupported, HostSystemError, InternalError

PROGRAM: Final = "swtpm"
SOCKET: Final = "swtpm.sock"
SETUP_S: Final = 60.0
CHANGE_S: Final = 20.0
"""A TPM whose passphrase is another's lets swtpm_setup wait for ever."""
_STATES: Final = {"1.2": "tpm1.2", "2.0": "tpm2"}
_CIPHER: Final = "aes-256-cbc"
_NEW: Final = ".new"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KILL: Final = signal.SIGKILL
_PASS: Final = stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class TpmPlaces:
    """Where what belongs to a guest's TPM lies."""

    state: Path
    socket: Path
    log: Path


def state_folder(host: QemuHost, uuid: str) -> Path:
    """Where the TPMs of a guest keep what they must not forget."""
    return host.state_folder / "swtpm" / uuid


def emulated_tpm(domain: Domain) -> Tpm | None:
    """The TPM that a program of ours is."""
    return next((one for one in domain.devices.tpms if one.backend.type == "emulator"), None)


def version_of(tpm: Tpm) -> str:
    """The version of an emulated TPM."""
    version = tpm.backend.version
    return "2.0" if version in (None, "default") else version or "2.0"


async def start_tpm(
    host: QemuHost, domain: Domain, tpm: Tpm, folder: Path, *, incoming: bool, user: tuple[int, int] | None
) -> Helper:
    """Starts the program, after what it needs was made if this is the guest's first start with it.

    With `incoming`, what it knows comes with the guest's memory. Raises ConfigUnsupported and ArgumentUnsupported
    for what this host's programs cannot do, NoSuchSecret, HostSystemError, and InternalError with their own words.
    """
    programs = host.tpm_programs
    await programs.refresh()
    if programs.swtpm is None or programs.setup is None:
        raise ConfigUnsupported("Unable to find 'swtpm' and 'swtpm_setup' binaries in $PATH")
    version = version_of(tpm)
    places = TpmPlaces(
        state=state_folder(host, str(domain.uuid)) / _STATES[version],
        socket=folder / SOCKET,
        log=log_of(host, domain.name, PROGRAM),
    )
    phrase = await _phrase(host, tpm)
    if not places.state.is_dir():
        await _set_up(programs, domain, tpm, places, phrase, incoming=incoming, user=user)
    else:
        _give(places.state, user)
    if user is not None:
        _open_way(host.paths.state, places.state)
    _give_log(places.log, user)
    if not incoming:
        await _choose_banks(programs, tpm, places.state, places.log, phrase, user=user)
    argv = [programs.swtpm, "socket", "--ctrl", f"type=unixio,path={places.socket},mode=0600"]
    argv += ["--tpmstate", f"dir={places.state},mode=0600", "--log", f"file={places.log}", "--terminate"]
    if version == "2.0":
        argv.append("--tpm2")
    with contextlib.suppress(FileNotFoundError):
        places.socket.unlink()
    with contextlib.ExitStack() as stack:
        inherit: list[int] = []
        if phrase is not None:
            if "cmdarg-pwd-fd" not in programs.emulates:
                raise ArgumentUnsupported(f"{programs.swtpm} does not support passing passphrase via file descriptor")
            inherit = [stack.enter_context(_sealed(phrase)) for _ in range(2)]
            argv += ["--key", f"pwdfd={inherit[0]},mode={_CIPHER}"]
            argv += ["--migration-key", f"pwdfd={inherit[1]},mode={_CIPHER}"]
        role = Role(PROGRAM, tpm.alias or "tpm")
        helper, mark = spawn_helper(role, argv, folder=folder, log=places.log, inherit=inherit, user=user)
    await until_ready(helper, mark, lambda: places.socket.exists() and listens(str(places.socket)))
    return helper


def remove_state(host: QemuHost, uuid: str) -> None:
    """What a guest's TPM kept is gone. Raises HostSystemError."""
    folder = state_folder(host, uuid)
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot remove '{folder}'") from exc


async def _phrase(host: QemuHost, tpm: Tpm) -> bytes | None:
    secret = tpm.backend.encryption_secret
    if secret is None:
        return None
    return await host.needed.secrets.secret_value(uuid=secret, usage_type="vtpm", usage="")


@contextlib.contextmanager
def _sealed(phrase: bytes) -> Iterator[int]:
    """A descriptor from which a program reads a passphrase."""
    descriptor = os.memfd_create("passphrase", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, phrase)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


async def _set_up(
    programs: TpmPrograms,
    domain: Domain,
    tpm: Tpm,
    places: TpmPlaces,
    phrase: bytes | None,
    *,
    incoming: bool,
    user: tuple[int, int] | None,
) -> None:
    """Makes the TPM's memory as a factory does. It has its name only when it is whole."""
    state = places.state
    new = state.with_name(state.name + _NEW)
    try:
        shutil.rmtree(new, ignore_errors=True)
        state.parent.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        state.parent.mkdir(mode=0o711, exist_ok=True)
        new.mkdir(mode=0o700)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Could not create TPM directory {state}") from exc
    words = ["--tpm2"] if version_of(tpm) == "2.0" else []
    if incoming:
        words += ["--overwrite"]
    else:
        words += ["--vmid", f"{domain.name}:{domain.uuid}", "--createek", "--create-ek-cert", "--create-platform-cert"]
        words += ["--lock-nvram", "--not-overwrite"]
    try:
        await _run_setup(programs, words, new, places.log, phrase, limit_s=SETUP_S)
        # it is nobody else's before it has its name
        _give(new, user)
        new.rename(state)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Could not create TPM directory {state}") from exc
    finally:
        shutil.rmtree(new, ignore_errors=True)


async def _choose_banks(
    programs: TpmPrograms, tpm: Tpm, state: Path, log: Path, phrase: bytes | None, *, user: tuple[int, int] | None
) -> None:
    banks = _banks(tpm.backend.active_pcr_banks)
    if not banks or version_of(tpm) != "2.0" or "cmdarg-reconfigure-pcr-banks" not in programs.sets_up:
        return
    words = ["--tpm2", "--pcr-banks", ",".join(banks), "--reconfigure"]
    # what it works on is the guest's user's already: root stays away from it
    await _run_setup(programs, words, state, log, phrase, limit_s=CHANGE_S, user=user)


def _banks(wanted: PcrBanks | None) -> list[str]:
    if wanted is None:
        return []
    return [name for name in ("sha1", "sha256", "sha384", "sha512") if getattr(wanted, name)]


async def _run_setup(
    programs: TpmPrograms,
    words: Sequence[str],
    state: Path,
    log: Path,
    phrase: bytes | None,
    *,
    limit_s: float,
    user: tuple[int, int] | None = None,
) -> None:
    assert programs.setup is not None
    trim(log)
    _give_log(log, user)
    if os.geteuid() != 0 and "cmdarg-create-config-files" in programs.sets_up:
        await _run([programs.setup, "--create-config-files", "skip-if-exist"], log, (), limit_s, None)
    argv = [programs.setup, *words, "--tpm-state", str(state), "--logfile", str(log)]
    with contextlib.ExitStack() as stack:
        inherit: list[int] = []
        if phrase is not None:
            if "cmdarg-pwdfile-fd" not in programs.sets_up:
                raise ArgumentUnsupported(f"{programs.setup} does not support passing passphrase via file descriptor")
            inherit.append(stack.enter_context(_sealed(phrase)))
            argv += ["--pwdfile-fd", str(inherit[0]), "--cipher", _CIPHER]
        await _run(argv, log, inherit, limit_s, user)


def _spawn(argv: Sequence[str], inherit: Sequence[int], user: tuple[int, int] | None) -> subprocess.Popen[bytes]:
    """Starts it; the loop's own way to start a process knows neither users nor masks under uvloop."""
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        cwd="/",
        umask=0o077,
        pass_fds=tuple(inherit),
        user=None if user is None else user[0],
        group=None if user is None else user[1],
        extra_groups=None if user is None else [],
        process_group=0,
    )


async def _run(
    argv: Sequence[str], log: Path, inherit: Sequence[int], limit_s: float, user: tuple[int, int] | None
) -> None:
    child = _spawn(argv, inherit, user)
    waiting = asyncio.ensure_future(asyncio.to_thread(child.wait))
    try:
        async with asyncio.timeout(limit_s):
            status = await asyncio.shield(waiting)
    except TimeoutError:
        status = -1
    finally:
        if not waiting.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, _KILL)
        await waiting
    if status:
        said = await asyncio.to_thread(_last_lines, log)
        what = f"Could not run '{argv[0]}'. exitstatus: {status}; Check error log '{log}' for details. {said}"
        raise InternalError(what.strip())


def _environment() -> dict[str, str]:
    # who is not root has the files of its certificate authority at home
    kept = {name: os.environ[name] for name in ("HOME", "XDG_CONFIG_HOME") if name in os.environ}
    return {"LC_ALL": "C", "PATH": _PATH, **kept}


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return " ".join(lines[-5:])[-500:]


def _give(state: Path, user: tuple[int, int] | None) -> None:
    """What the TPM keeps is its guest's user's alone. Raises HostSystemError, also for a link to elsewhere."""
    uid, gid = user or (os.geteuid(), os.getegid())
    try:
        for path in (*state.iterdir(), state):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                if (found.st_uid, found.st_gid) != (uid, gid):
                    os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, 0o700 if stat.S_ISDIR(found.st_mode) else 0o600)
            finally:
                os.close(descriptor)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot give '{state}' to the guest's user") from exc


def _open_way(root: Path, state: Path) -> None:
    """Our own folders let another user pass to what is its own, not look around. Raises HostSystemError."""
    try:
        for folder in state.parents:
            if root not in (folder, *folder.parents):
                break
            mode = stat.S_IMODE(folder.stat().st_mode)
            if mode & _PASS != _PASS:
                folder.chmod(mode | _PASS)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot give '{state}' to the guest's user") from exc


def _give_log(log: Path, user: tuple[int, int] | None) -> None:
    """The log is there, only its guest's user and we may read it. Raises HostSystemError."""
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            log.parent.chmod(0o711)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if user is not None:
                os.fchown(descriptor, *user)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot write '{log}'") from exc
