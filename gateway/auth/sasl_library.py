"""The system's libsasl2, which libvirt's own daemon uses too: sessions that find out who a client is.

A function of the library may wait for a file, a directory service or a key server, so everything but `encode` and
`decode` is called in a thread, always the same one: the library's set-up is not made for two. The library keeps
pointers to the options and callbacks that it is given; they are kept alive here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Final

from util.sasl import (
    CONTINUE,
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

_FAIL: Final = -1
_LIST_END: Final = 0
_GET_OPTION: Final = 1
_LOG: Final = 2
_USER_NAME: Final = 0
_SUCCESS_DATA: Final = 4
APPLICATION: Final = b"libvirt"

_GetOption = ctypes.CFUNCTYPE(ctypes.c_int, void, text, text, ctypes.POINTER(text), length_pointer)
_Log = ctypes.CFUNCTYPE(ctypes.c_int, void, ctypes.c_int, text)


_given: Final[list[object]] = []
"""What the C library was ever given: it has one set-up for the process, and calls what that names until it ends."""


class _Callback(ctypes.Structure):
    _fields_ = (("id", ctypes.c_ulong), ("proc", void), ("context", void))


class SaslLibrary:
    """The library, set up once for this process, or again after `close`."""

    def __init__(self, options: Mapping[str, str], log: Callable[[int, str], None]) -> None:
        self.lib = _load()
        self._options = {name.encode(): value.encode() for name, value in options.items()}
        self._log = log
        self._kept = (_GetOption(self._get_option), _Log(self._say))
        addresses = (ctypes.cast(function, void) for function in self._kept)
        self._callbacks = (_Callback * 3)(
            _Callback(_GET_OPTION, next(addresses), None),
            _Callback(_LOG, next(addresses), None),
            _Callback(_LIST_END, None, None),
        )
        _given.append((self._kept, self._callbacks))
        code = self.lib.sasl_server_init(self._callbacks, APPLICATION)
        if code != OK:
            raise SaslError(f"libsasl2 cannot be set up: {self.words(code)}")

    def close(self) -> None:
        """Lets go: the library forgets options and callbacks, and may be set up anew. No session may be left."""
        self.lib.sasl_server_done()

    def _get_option(
        self,
        context: int,
        plugin: bytes | None,
        option: bytes,
        result: ctypes._Pointer[ctypes.c_char_p],
        length: ctypes._Pointer[ctypes.c_uint],
    ) -> int:
        value = self._options.get(option)
        if value is None:
            return _FAIL  # the file of the library's own settings is asked next
        result[0] = value
        if length:
            length[0] = len(value)
        return OK

    def _say(self, context: int, level: int, message: bytes | None) -> int:
        self._log(level, (message or b"").decode("utf-8", "replace"))
        return OK

    def words(self, code: int) -> str:
        """The library's words for one of its codes."""
        return words_of(self.lib, code)

    def session(self, local: str | None, remote: str | None) -> ServerSession:
        """A session with a client; addresses are `HOST;PORT`, nothing on a unix socket. Raises SaslError."""
        connection = void()
        ends = (address.encode() if address is not None else None for address in (local, remote))
        code = self.lib.sasl_server_new(
            APPLICATION, None, None, next(ends), next(ends), None, _SUCCESS_DATA, ctypes.byref(connection)
        )
        if code != OK:
            raise SaslError(self.words(code))
        return ServerSession(self.lib, connection)


class ServerSession(SaslSession):
    """One client's way from unknown to known. Closed by whoever made it."""

    def mechanisms(self) -> str:
        """The mechanisms that may be used, with commas between them. Raises SaslError when there is none."""
        found, length, count = text(), uint(), ctypes.c_int()
        self._check(
            self._lib.sasl_listmech(
                self._connection,
                None,
                b"",
                b",",
                b"",
                ctypes.byref(found),
                ctypes.byref(length),
                ctypes.byref(count),
            )
        )
        if not count.value or found.value is None:
            raise SaslError("no mechanism can be used")
        return found.value.decode("ascii", "replace")

    def start(self, mechanism: str, data: bytes | None) -> tuple[bool, bytes | None]:
        """Begins; whether the client is known now, and what it is to be sent. Raises SaslError."""
        out, length = void(), uint()
        code = self._lib.sasl_server_start(
            self._connection,
            mechanism.encode("ascii", "replace"),
            data,
            len(data or b""),
            ctypes.byref(out),
            ctypes.byref(length),
        )
        return self._moved(code, out, length)

    def step(self, data: bytes | None) -> tuple[bool, bytes | None]:
        """Goes on. Raises SaslError."""
        out, length = void(), uint()
        code = self._lib.sasl_server_step(
            self._connection, data, len(data or b""), ctypes.byref(out), ctypes.byref(length)
        )
        return self._moved(code, out, length)

    def _moved(self, code: int, out: ctypes.c_void_p, length: ctypes.c_uint) -> tuple[bool, bytes | None]:
        if code not in (OK, CONTINUE):
            self._check(code)
        return code == OK, None if out.value is None else ctypes.string_at(out, length.value)

    def user(self) -> str:
        """Who the client is. Raises SaslError while that is not known."""
        found = self._property(_USER_NAME)
        if found is None:
            raise SaslError("nobody knows who the client is")
        return ctypes.string_at(found).decode("utf-8", "replace")


def _load() -> ctypes.CDLL:
    lib = load_sasl()
    lib.sasl_server_init.argtypes = (void, text)
    lib.sasl_server_new.argtypes = (text, text, text, text, text, void, uint, out_pointer)
    lib.sasl_listmech.argtypes = (
        void, text, text, text, text, ctypes.POINTER(text), length_pointer, ctypes.POINTER(ctypes.c_int)
    )  # fmt: skip
    lib.sasl_server_start.argtypes = (void, text, text, uint, out_pointer, length_pointer)
    lib.sasl_server_step.argtypes = (void, text, uint, out_pointer, length_pointer)
    return lib
