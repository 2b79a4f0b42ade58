"""The system's libsasl2, which libvirt's own daemon uses too: sessions that find out who a client is.

A function of the library may wait for a file, a directory service or a key server, so everything but `encode` and
`decode` is called in a thread, always the same one: the library's set-up is not made for two. The library keeps
pointers to the options and callbacks that it is given; they are kept alive here.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from typing import Final

_OK: Final = 0
_CONTINUE: Final = 1
_FAIL: Final = -1
_LIST_END: Final = 0
_GET_OPTION: Final = 1
_LOG: Final = 2
_USER_NAME: Final = 0
_STRENGTH: Final = 1
_MAX_OUT: Final = 2
_EXTERNAL_STRENGTH: Final = 100
_SECURITY: Final = 101
_SUCCESS_DATA: Final = 4
_NO_PLAINTEXT: Final = 0x01
_NO_ANONYMOUS: Final = 0x10
_NAMES: Final = ("libsasl2.so.2", "libsasl2.so.3", "libsasl2.so")
APPLICATION: Final = b"libvirt"
BUFFER_MAX: Final = 65536

_void: Final = ctypes.c_void_p
_text: Final = ctypes.c_char_p
_uint: Final = ctypes.c_uint
_out: Final = ctypes.POINTER(_void)
_length: Final = ctypes.POINTER(_uint)
_GetOption = ctypes.CFUNCTYPE(ctypes.c_int, _void, _text, _text, ctypes.POINTER(_text), _length)
_Log = ctypes.CFUNCTYPE(ctypes.c_int, _void, ctypes.c_int, _text)


_given: Final[list[object]] = []
"""What the C library was ever given: it has one set-up for the process, and calls what that names until it ends."""


class _Callback(ctypes.Structure):
    _fields_ = (("id", ctypes.c_ulong), ("proc", _void), ("context", _void))


class _Security(ctypes.Structure):
    _fields_ = (
        ("min_ssf", _uint),
        ("max_ssf", _uint),
        ("maxbufsize", _uint),
        ("security_flags", _uint),
        ("property_names", _void),
        ("property_values", _void),
    )


class SaslError(Exception):
    """The library refuses: the client did not prove who it is, or the library cannot be used."""


class SaslLibrary:
    """The library, set up once for this process, or again after `close`."""

    def __init__(self, options: Mapping[str, str], log: Callable[[int, str], None]) -> None:
        self.lib = _load()
        self._options = {name.encode(): value.encode() for name, value in options.items()}
        self._log = log
        self._kept = (_GetOption(self._get_option), _Log(self._say))
        addresses = (ctypes.cast(function, _void) for function in self._kept)
        self._callbacks = (_Callback * 3)(
            _Callback(_GET_OPTION, next(addresses), None),
            _Callback(_LOG, next(addresses), None),
            _Callback(_LIST_END, None, None),
        )
        _given.append((self._kept, self._callbacks))
        code = self.lib.sasl_server_init(self._callbacks, APPLICATION)
        if code != _OK:
            raise SaslError(f"libsasl2 cannot be set up: {self.text(code)}")

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
        return _OK

    def _say(self, context: int, level: int, message: bytes | None) -> int:
        self._log(level, (message or b"").decode("utf-8", "replace"))
        return _OK

    def text(self, code: int) -> str:
        """The library's words for one of its codes."""
        words: bytes | None = self.lib.sasl_errstring(code, None, None)
        return (words or b"unknown error").decode("utf-8", "replace")

    def session(self, local: str | None, remote: str | None) -> SaslSession:
        """A session with a client; addresses are `HOST;PORT`, nothing on a unix socket. Raises SaslError."""
        connection = _void()
        ends = (address.encode() if address is not None else None for address in (local, remote))
        code = self.lib.sasl_server_new(
            APPLICATION, None, None, next(ends), next(ends), None, _SUCCESS_DATA, ctypes.byref(connection)
        )
        if code != _OK:
            raise SaslError(self.text(code))
        return SaslSession(self, connection)


class SaslSession:
    """One client's way from unknown to known. Closed by whoever made it."""

    def __init__(self, library: SaslLibrary, connection: ctypes.c_void_p) -> None:
        self._library = library
        self._lib = library.lib
        self._connection = connection
        self._out_max = 0

    def secure(self, least: int, most: int, *, is_private: bool) -> None:
        """How strong the session's own encryption has to be; `is_private` where none is needed. Raises SaslError."""
        flags = _NO_ANONYMOUS if is_private else _NO_ANONYMOUS | _NO_PLAINTEXT
        wanted = _Security(least, most, BUFFER_MAX, flags, None, None)
        self._check(self._lib.sasl_setprop(self._connection, _SECURITY, ctypes.byref(wanted)))

    def encrypted_by(self, strength: int) -> None:
        """Tells how strongly something else, TLS, encrypts already. Raises SaslError."""
        self._check(self._lib.sasl_setprop(self._connection, _EXTERNAL_STRENGTH, ctypes.byref(_uint(strength))))

    def mechanisms(self) -> str:
        """The mechanisms that may be used, with commas between them. Raises SaslError when there is none."""
        found, length, count = _text(), _uint(), ctypes.c_int()
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
        out, length = _void(), _uint()
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
        out, length = _void(), _uint()
        code = self._lib.sasl_server_step(
            self._connection, data, len(data or b""), ctypes.byref(out), ctypes.byref(length)
        )
        return self._moved(code, out, length)

    def _moved(self, code: int, out: ctypes.c_void_p, length: ctypes.c_uint) -> tuple[bool, bytes | None]:
        if code not in (_OK, _CONTINUE):
            self._check(code)
        return code == _OK, None if out.value is None else ctypes.string_at(out, length.value)

    def user(self) -> str:
        """Who the client is. Raises SaslError while that is not known."""
        found = self._property(_USER_NAME)
        if found is None:
            raise SaslError("nobody knows who the client is")
        return ctypes.string_at(found).decode("utf-8", "replace")

    def strength(self) -> int:
        """How strongly the session itself encrypts from now on; 0 when it does not. Raises SaslError."""
        found = self._property(_STRENGTH)
        strength = 0 if found is None else ctypes.cast(found, _length)[0]
        most = self._property(_MAX_OUT)
        self._out_max = 0 if most is None else ctypes.cast(most, _length)[0]
        return strength

    def _property(self, number: int) -> int | None:
        found = _void()
        self._check(self._lib.sasl_getprop(self._connection, number, ctypes.byref(found)))
        return found.value

    def encode(self, data: bytes) -> bytes:
        """The bytes that the client gets for these. Raises SaslError."""
        size = self._out_max or BUFFER_MAX
        parts = [self._pass(self._lib.sasl_encode, data[start : start + size]) for start in range(0, len(data), size)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def decode(self, data: bytes) -> bytes:
        """What the client meant by these bytes, as far as it is complete. Raises SaslError for what it cannot mean."""
        return self._pass(self._lib.sasl_decode, data)

    def _pass(self, function: Callable[..., int], data: bytes) -> bytes:
        out, length = _void(), _uint()
        self._check(function(self._connection, data, len(data), ctypes.byref(out), ctypes.byref(length)))
        return b"" if out.value is None else ctypes.string_at(out, length.value)

    def close(self) -> None:
        """Lets go of the session. Nothing else may be called afterwards."""
        if self._connection:
            self._lib.sasl_dispose(ctypes.byref(self._connection))
            self._connection = _void()

    def _check(self, code: int) -> None:
        if code != _OK:
            detail: bytes | None = self._lib.sasl_errdetail(self._connection)
            raise SaslError((detail or b"").decode("utf-8", "replace") or self._library.text(code))


def _load() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise SaslError("libsasl2 is used on Linux only")
    for name in _NAMES:
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        break
    else:
        raise SaslError("this host has no libsasl2")
    lib.sasl_errstring.restype = _text
    lib.sasl_errdetail.restype = _text
    lib.sasl_errdetail.argtypes = (_void,)
    lib.sasl_server_init.argtypes = (_void, _text)
    lib.sasl_server_new.argtypes = (_text, _text, _text, _text, _text, _void, _uint, _out)
    lib.sasl_dispose.argtypes = (_out,)
    lib.sasl_dispose.restype = None
    lib.sasl_listmech.argtypes = (
        _void,
        _text,
        _text,
        _text,
        _text,
        ctypes.POINTER(_text),
        _length,
        ctypes.POINTER(ctypes.c_int),
    )
    lib.sasl_server_start.argtypes = (_void, _text, _text, _uint, _out, _length)
    lib.sasl_server_step.argtypes = (_void, _text, _uint, _out, _length)
    lib.sasl_encode.argtypes = lib.sasl_decode.argtypes = (_void, _text, _uint, _out, _length)
    lib.sasl_getprop.argtypes = (_void, ctypes.c_int, _out)
    lib.sasl_setprop.argtypes = (_void, ctypes.c_int, _void)
    return lib
