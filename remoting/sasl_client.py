"""Proving who one is by the system's libsasl2: the mechanisms that need it (GSSAPI), or that encrypt (DIGEST-MD5).

The library is set up once for a process, and called in one thread of its own: a mechanism may wait for a key server.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from rpc.sasl import Credentials, SaslFault
from schema.errors import AuthFailed, AuthUnavailable
from util.sasl import (
    CONTINUE,
    LEAST_STRENGTH,
    MOST_STRENGTH,
    OK,
    SaslError,
    SaslSession,
    length_pointer,
    load_sasl,
    out_pointer,
    text,
    uint,
    void,
    words_of,
)

_INTERACT: Final = 2
_NO_MECHANISM: Final = -4
_SUCCESS_DATA: Final = 4
_USER: Final = 0x4001
_AUTH_NAME: Final = 0x4002
_PASSWORD: Final = 0x4004
_END: Final = 0
TLS_STRENGTH: Final = 256
SERVICE: Final = b"libvirt"
BY_TICKET: Final = frozenset({"GSSAPI", "GSS-SPNEGO", "GS2-KRB5", "GS2-IAKERB"})
"""Mechanisms that need no password: the user has proved to a key server who it is."""


class _Callback(ctypes.Structure):
    _fields_ = (("id", ctypes.c_ulong), ("proc", void), ("context", void))


class _Prompt(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_ulong),
        ("challenge", text),
        ("prompt", text),
        ("default", text),
        ("result", void),
        ("length", uint),
    )


_prompts: Final = ctypes.POINTER(_Prompt)


@cache
def sasl_thread() -> ThreadPoolExecutor:
    """Where the library is called."""
    return ThreadPoolExecutor(1, "sasl client")


@cache
def client_library() -> ctypes.CDLL:
    """The library, set up. Raises SaslError."""
    lib = load_sasl()
    lib.sasl_client_init.argtypes = (void,)
    lib.sasl_client_new.argtypes = (text, text, text, text, void, uint, out_pointer)
    lib.sasl_client_start.argtypes = (
        void,
        text,
        ctypes.POINTER(_prompts),
        out_pointer,
        length_pointer,
        ctypes.POINTER(text),
    )
    lib.sasl_client_step.argtypes = (void, text, uint, ctypes.POINTER(_prompts), out_pointer, length_pointer)
    code = lib.sasl_client_init(None)
    if code != OK:
        raise SaslError(f"libsasl2 cannot be set up: {words_of(lib, code)}")
    return lib


class LibraryProof(SaslSession):
    """One proof by one of the mechanisms that a daemon offers.

    Where nothing else encrypts (`is_private` is false), only those are taken that do. Raises AuthUnavailable when the
    library knows none of them, AuthFailed when it cannot begin.
    """

    def __init__(
        self,
        offered: list[str],
        host: str,
        ends: tuple[str, str] | None,
        credentials: Credentials | None,
        *,
        is_private: bool,
        is_tls: bool,
    ) -> None:
        self.name = ""
        self._credentials = credentials
        self._is_private = is_private
        self._is_done = False
        self._kept: list[ctypes.Array[ctypes.c_char]] = []
        asked = (_AUTH_NAME, _USER, _PASSWORD) if credentials is not None else ()
        self._callbacks = (_Callback * (len(asked) + 1))(
            *(_Callback(number, None, None) for number in asked), _Callback(_END, None, None)
        )
        connection = void()
        lib = client_library()
        local, remote = (None, None) if ends is None else (end.encode() for end in ends)
        code = lib.sasl_client_new(
            SERVICE, host.encode(), local, remote, self._callbacks, _SUCCESS_DATA, ctypes.byref(connection)
        )
        if code != OK:
            raise AuthFailed(f"libsasl2: {words_of(lib, code)}")
        super().__init__(lib, connection)
        try:
            if is_tls:
                self.encrypted_by(TLS_STRENGTH)
            least, most = (0, 0) if is_private else (LEAST_STRENGTH, MOST_STRENGTH)
            self.secure(least, most, is_private=is_private)
            self._first = self._start(" ".join(offered))
        except SaslError as exc:
            self.close()
            raise AuthFailed(f"the proof for '{host}' cannot begin: {exc}") from exc
        except AuthUnavailable:
            self.close()
            raise

    def _start(self, offered: str) -> bytes | None:
        prompts, out, length, name = _prompts(), void(), uint(), text()
        arguments = (ctypes.byref(prompts), ctypes.byref(out), ctypes.byref(length), ctypes.byref(name))
        code = _INTERACT
        while code == _INTERACT:
            code = self._lib.sasl_client_start(self._connection, offered.encode(), *arguments)
            self._tell(code, prompts)
        if code == _NO_MECHANISM:
            raise AuthUnavailable(f"none of the SASL mechanisms {offered} can be used with this host's libsasl2")
        self._moved(code)
        self.name = (name.value or b"").decode("ascii", "replace")
        return None if out.value is None else ctypes.string_at(out, length.value)

    def _tell(self, code: int, prompts: ctypes._Pointer[_Prompt]) -> None:
        """Answers what the library asks for."""
        if code != _INTERACT:
            return
        known = self._credentials
        if known is None:
            raise SaslError("a name and a password are asked for, and there are none")
        answers = {_AUTH_NAME: known.user, _USER: known.user, _PASSWORD: known.password}
        place = 0
        while (prompt := prompts[place]).id != _END:
            answer = answers.get(prompt.id)
            if answer is None:
                raise SaslError(f"something is asked for that nobody knows (0x{prompt.id:x})")
            raw = answer.encode()
            self._kept.append(ctypes.create_string_buffer(raw))
            prompt.result = ctypes.cast(self._kept[-1], void)
            prompt.length = len(raw)
            place += 1

    def _moved(self, code: int) -> None:
        if code not in (OK, CONTINUE):
            self._check(code)
        self._is_done = code == OK

    # --- as a mechanism ---

    def first(self) -> bytes | None:
        """What is sent with the mechanism's name; nothing where the daemon speaks first."""
        return self._first

    def answer(self, challenge: bytes) -> bytes | None:
        """The answer to a challenge. Raises SaslFault."""
        prompts, out, length = _prompts(), void(), uint()
        arguments = (ctypes.byref(prompts), ctypes.byref(out), ctypes.byref(length))
        code = _INTERACT
        try:
            while code == _INTERACT:
                code = self._lib.sasl_client_step(self._connection, challenge, len(challenge), *arguments)
                self._tell(code, prompts)
            self._moved(code)
        except SaslError as exc:
            raise SaslFault(str(exc)) from exc
        return None if out.value is None else ctypes.string_at(out, length.value)

    def check(self) -> None:
        """Raises SaslFault when the daemon says that all is well before it has proved itself."""
        if not self._is_done:
            raise SaslFault("it did not prove itself")
        try:
            strength = self.strength()
        except SaslError as exc:
            raise SaslFault(str(exc)) from exc
        if not self._is_private and strength < LEAST_STRENGTH:
            raise SaslFault(f"it encrypts with a strength of {strength}, at least {LEAST_STRENGTH} is needed")
