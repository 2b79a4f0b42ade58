"""How single values are written in attributes and texts."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """A value's two directions: `parse` raises ValueError, `expects` ends libvirt's error message.

    `inline` is the text of an expression that does what `write` does, with {} for the value. Of a `nonzero` or
    `natural` number, zero or a negative one is refused in words of its own.
    """

    parse: Callable[[str], T]
    write: Callable[[T], str]
    expects: str = ""
    escaped: bool = False
    inline: str = ""
    nonzero: bool = False
    natural: bool = False


_INT = re.compile(r"\s*[+-]?\d+\Z").match
_UINT = re.compile(r"\s*\+?\d+\Z").match


def parse_int(text: str) -> int:
    """A decimal number that fits 64 bits; signs are allowed."""
    if _INT(text) is None or not text.isascii() or len(text) > 24:
        raise ValueError(text)
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(text)
    return value


def parse_uint(text: str) -> int:
    """A decimal number from 0 to 2^64-1."""
    if _UINT(text) is None or not text.isascii() or len(text) > 24:
        raise ValueError(text)
    value = int(text)
    if value >= 1 << 64:
        raise ValueError(text)
    return value


def parse_uint32(text: str) -> int:
    """A decimal number from 0 to 2^32-1."""
    value = parse_uint(text)
    if value >= 1 << 32:
        raise ValueError(text)
    return value


def parse_any_base(text: str) -> int:
    """A number from 0 to 2^64-1 in C notation: decimal, 0x... or 0 (octal)."""
    text = text.lstrip()
    if not text.isascii() or len(text) > 24 or "_" in text or text.startswith("-") or text != text.rstrip():
        raise ValueError(text)
    lower = text.lower()
    if lower.startswith("0x"):
        value = int(lower, 16)
    elif lower.startswith("0") and len(lower) > 1:
        value = int(lower, 8)
    else:
        value = parse_uint(lower)
    if value >= 1 << 64:
        raise ValueError(text)
    return value


def parse_int32(text: str) -> int:
    """A decimal number that fits 32 bits; signs are allowed."""
    value = parse_int(text)
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(text)
    return value


def parse_natural(text: str) -> int:
    """A decimal number from 0 to 2^31-1."""
    value = parse_int32(text)
    if value < 0:
        raise ValueError(text)
    return value


def parse_any_base32(text: str) -> int:
    """A number from 0 to 2^32-1 in C notation."""
    value = parse_any_base(text)
    if value >= 1 << 32:
        raise ValueError(text)
    return value


def parse_positive(text: str) -> int:
    """A number from 1 to 2^32-1."""
    value = parse_uint32(text)
    if not value:
        raise ValueError(text)
    return value


_OCTAL = re.compile(r"0*[0-7]{1,3}\Z").match


def parse_octal(text: str) -> int:
    """A number from 0 to 2^32-1 in octal."""
    if len(text) > 24 or not text.isascii() or not text.isdigit():
        raise ValueError(text)
    value = int(text, 8)
    if value >= 1 << 32:
        raise ValueError(text)
    return value


def parse_mode(text: str) -> int:
    """The permissions of a file, in octal."""
    if len(text) > 24 or _OCTAL(text) is None:
        raise ValueError(text)
    return int(text, 8)


INT: Codec[int] = Codec(parse_int, str, "Expected integer value")
INT32: Codec[int] = Codec(parse_int32, str, "Expected integer value")
NATURAL: Codec[int] = Codec(parse_natural, str, "Expected integer value", natural=True)
UINT: Codec[int] = Codec(parse_uint32, str, "Expected non-negative integer value")
POSITIVE: Codec[int] = Codec(parse_positive, str, "Expected non-negative integer value", nonzero=True)
ULONG: Codec[int] = Codec(parse_uint, str, "Expected non-negative integer value")
SOME: Codec[int | None] = Codec(lambda text: parse_uint32(text) or None, str, "Expected non-negative integer value")
"""An amount of which zero says no more than nothing."""
SOME_INT: Codec[int | None] = Codec(lambda text: parse_int(text) or None, str, "Expected integer value")
"""A number of which zero says no more than nothing."""
ANY_BASE32: Codec[int] = Codec(parse_any_base32, str, "Expected non-negative integer value")
ANY_BASE: Codec[int] = Codec(parse_any_base, str, "Expected non-negative integer value")


def parse_signed_any_base(text: str) -> int:
    """A number in C notation that fits 32 bits; signs are allowed."""
    text = text.strip()
    is_negative = text.startswith("-")
    value = parse_any_base(text.removeprefix("-"))
    if value > (1 << 31) - (not is_negative):
        raise ValueError(text)
    return -value if is_negative else value


def signed_hexadecimal(digits: int) -> Codec[int]:
    """A number read in any C notation, negative ones too, and written as 0x with at least so many digits."""
    return Codec(parse_signed_any_base, lambda value: f"0x{value:0{digits}X}", "Expected integer value")


_VERSION = re.compile(r"(\d{1,2})\.(\d{1,2})\Z").match


def parse_usb_version(text: str) -> int:
    """A version as USB has it, in binary coded decimals: `1.1` is 0x0110; -1 stays -1."""
    if text == "-1":
        return -1
    found = _VERSION(text)
    if found is None or not text.isascii():
        raise ValueError(text)
    return int(f"{int(found[1]):02d}{found[2].ljust(2, '0')}", 16)


USB_VERSION: Codec[int] = Codec(parse_usb_version, lambda value: f"{value >> 8:x}.{value & 0xFF:02x}")


def hexadecimal(digits: int) -> Codec[int]:
    """A number read in any C notation and written as 0x with at least so many digits."""
    return Codec(
        parse_any_base,
        lambda value: f"0x{value:0{digits}x}",
        "Expected non-negative integer value",
        inline=f"('0x%0{digits}x' % {{}})",
    )


def _two_words(yes: str, no: str) -> Codec[bool]:
    words = {yes: True, no: False}

    def parse(text: str) -> bool:
        if text not in words:
            raise ValueError(text)
        return words[text]

    return Codec(parse, lambda value: yes if value else no, inline=f"({yes!r} if {{}} else {no!r})")


YES_NO = _two_words("yes", "no")
ONLY_YES: Codec[bool] = Codec(lambda text: text == "yes", lambda value: "yes" if value else "no")
"""Whatever is not `yes` means no."""
ON_OFF = _two_words("on", "off")


def _parse_wrapping(text: str) -> int:
    """What C makes of a number: one too large for a sign wraps to a negative one."""
    value = parse_int(text)
    if not -(1 << 32) < value < 1 << 32:
        raise ValueError(text)
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


WRAPPING: Codec[int] = Codec(_parse_wrapping, str)
"""A number that libvirt reads without a sign and keeps with one."""

_HEX_DIGITS = re.compile(r"[0-9a-fA-F]{32}\Z").match


def parse_uuid(text: str) -> UUID:
    """A UUID with dashes anywhere between bytes, or none, as libvirt reads it."""
    digits = text.strip().replace("-", "").replace(" ", "")
    if _HEX_DIGITS(digits) is None:
        raise ValueError(text)
    return UUID(hex=digits)


UUID_TEXT: Codec[UUID] = Codec(parse_uuid, str)

_MAC = re.compile(r"([0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}\Z").match


def parse_mac(text: str) -> str:
    """Six bytes in hexadecimal, written with two lower-case digits each."""
    if _MAC(text) is None:
        raise ValueError(text)
    return ":".join(f"{int(part, 16):02x}" for part in text.split(":"))


MAC: Codec[str] = Codec(parse_mac, str)


def short_address(text: str) -> str:
    """An IP address in its shortest form; what is none is left as it is, for a check to refuse."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


ADDRESS: Codec[str] = Codec(short_address, str, escaped=True)

_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50, "e": 1 << 60}
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15, "e": 10**18}


def bytes_per_unit(unit: str) -> int | None:
    """The bytes of one `unit` (`KiB`, `k`, `MB`, `bytes`, ...), or None for a word that is no unit."""
    word = unit.lower()
    if word in ("", "b", "byte", "bytes"):
        return 1
    head, tail = word[0], word[1:]
    if head not in _DECIMAL:
        return None
    if tail in ("", "ib"):
        return _FACTORS[head]
    return _DECIMAL[head] if tail == "b" else None


def words(*known: str) -> Codec[str]:
    """One of a few words, kept as text."""
    table = {word: word for word in known}
    return Codec(table.__getitem__, lambda value: value, inline="{}")
