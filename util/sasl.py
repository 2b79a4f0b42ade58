"""The system's libsasl2, as far as both sides of a proof have it: its sessions, and what they encrypt.

A function of the library may wait for a file, a directory service or a key server, so everything but `encode` and
`decode` is called in a thread.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Final

OK: Final = 0
CONTINUE: Final = 1
_STRENGTH: Final = 1
_MAX_OUT: Final = 2
_EXTERNAL_STRENGTH: Final = 100
_SECURITY: Final = 101
_NO_PLAINTEXT: Final = 0x01
_NO_ANONYMOUS: Final = 0x10
_NAMES: Final = ("libsasl2.so.2", "libsasl2.so.3", "libsasl2.so")
BUFFER_MAX: Final = 65536
LEAST_STRENGTH: Final = 56  # what libvirt's clients and daemons insist on where nothing else encrypts
MOST_STRENGTH: Final = 100_000

void: Final = ctypes.c_void_p
text: Final = ctypes.c_char_p
uint: Final = ctypes.c_uint
out_pointer: Final = ctypes.POINTER(void)
length_pointer: Final = ctypes.POINTER(uint)


class Security(ctypes.Structure):
    """The library's `sasl_security_properties_t`."""

    _fields_ = (
        ("min_ssf", uint),
        ("max_ssf", uint),
        ("maxbufsize", uint),
        ("security_flags", uint),
        ("property_names", void),
        ("property_values", void),
    )


class SaslError(Exception):
    """The library refuses: somebody did not prove who it is, or the library cannot be used."""


class SaslSession:
    """One side's way from unknown to known. Closed by whoever made it."""

    def __init__(self, lib: ctypes.CDLL, connection: ctypes.c_void_p) -> None:
        self._lib = lib
        self._connection = connection
        self._out_max = 0

    def secure(self, least: int, most: int, *, is_private: bool) -> None:
        """How strong the session's own encryption has to be; `is_private` where none is needed. Raises SaslError."""
        flags = _NO_ANONYMOUS if is_private else _NO_ANONYMOUS | _NO_PLAINTEXT
        wanted = Security(least, most, BUFFER_MAX, flags, None, None)
        self._check(self._lib.sasl_setprop(self._connection, _SECURITY, ctypes.byref(wanted)))

    def encrypted_by(self, strength: int) -> None:
        """Tells how strongly something else, TLS, encrypts already. Raises SaslError."""
        self._check(self._lib.sasl_setprop(self._connection, _EXTERNAL_STRENGTH, ctypes.byref(uint(strength))))

    def strength(self) -> int:
        """How strongly the session itself encrypts from now on; 0 when it does not. Raises SaslError."""
        found = self._property(_STRENGTH)
        strength = 0 if found is None else ctypes.cast(found, length_pointer)[0]
        most = self._property(_MAX_OUT)
        self._out_max = 0 if most is None else ctypes.cast(most, length_pointer)[0]
        return strength

    def _property(self, number: int) -> int | None:
        found = void()
        self._check(self._lib.sasl_getprop(self._connection, number, ctypes.byref(found)))
        return found.value

    def encode(self, data: bytes) -> bytes:
        """The bytes that the other side gets for these. Raises SaslError."""
        size = self._out_max or BUFFER_MAX
        parts = [self._pass(self._lib.sasl_encode, data[start : start + size]) for start in range(0, len(data), size)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def decode(self, data: bytes) -> bytes:
        """What the other side meant by these bytes, as far as it is complete. Raises SaslError for what is nonsense."""
        return self._pass(self._lib.sasl_decode, data)

    def _pass(self, function: Callable[..., int], data: bytes) -> bytes:
        out, length = void(), uint()
        self._check(function(self._connection, data, len(data), ctypes.byref(out), ctypes.byref(length)))
        return b"" if out.value is None else ctypes.string_at(out, length.value)

    def close(self) -> None:
        """Lets go of the session. Nothing else may be called afterwards."""
        if self._connection:
            self._lib.sasl_dispose(ctypes.byref(self._connection))
            self._connection = void()

    def _check(self, code: int) -> None:
        if code != OK:
            detail: bytes | None = self._lib.sasl_errdetail(self._connection)
            raise SaslError((detail or b"").decode("utf-8", "replace") or words_of(self._lib, code))


def words_of(lib: ctypes.CDLL, code: int) -> str:
    """The library's words for one of its codes."""
    words: bytes | None = lib.sasl_errstring(code, None, None)
    return (words or b"unknown error").decode("utf-8", "replace")


def load_sasl() -> ctypes.CDLL:
    """The library. Raises SaslError where there is none."""
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
    lib.sasl_errstring.restype = text
    lib.sasl_errdetail.restype = text
    lib.sasl_errdetail.argtypes = (void,)
    lib.sasl_dispose.argtypes = (out_pointer,)
    lib.sasl_dispose.restype = None
    lib.sasl_encode.argtypes = lib.sasl_decode.argtypes = (void, text, uint, out_pointer, length_pointer)
    lib.sasl_getprop.argtypes = (void, ctypes.c_int, out_pointer)
    lib.sasl_setprop.argtypes = (void, ctypes.c_int, void)
    return lib
