"""Single values: numbers, units, UUIDs, MACs."""

from __future__ import annotations

from uuid import UUID

import pytest

from conf.values import (
    ANY_BASE,
    MAC,
    UINT,
    UUID_TEXT,
    bytes_per_unit,
    hexadecimal,
    parse_any_base,
    parse_int,
    parse_uint,
    words,
)


@pytest.mark.parametrize("text", ["", "x", "1x", "0x1", "٣", "1_0", "--1", "9" * 30, "1e3"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_int(text)
    with pytest.raises(ValueError):
        parse_uint(text)


def test_numbers_stop_at_their_width() -> None:
    assert parse_int(str(-(1 << 63))) == -(1 << 63)
    with pytest.raises(ValueError):
        parse_int(str(1 << 63))
    assert parse_uint(str((1 << 64) - 1)) == (1 << 64) - 1
    with pytest.raises(ValueError):
        UINT.parse(str(1 << 32))


def test_c_notation() -> None:
    assert parse_any_base("0x10") == 16
    assert parse_any_base("010") == 8
    assert ANY_BASE.parse("12") == 12
    assert hexadecimal(4).write(26) == "0x001a"
    with pytest.raises(ValueError):
        parse_any_base("-1")


@pytest.mark.parametrize(
    ("unit", "factor"), [("b", 1), ("KiB", 1024), ("kB", 1000), ("M", 1 << 20), ("MB", 10**6), ("EiB", 1 << 60)]
)
def test_units(unit: str, factor: int) -> None:
    assert bytes_per_unit(unit) == factor


def test_unknown_units() -> None:
    assert bytes_per_unit("x") is None
    assert bytes_per_unit("KiBi") is None


def test_uuid_is_read_with_or_without_dashes() -> None:
    wanted = UUID("6695eb01-f6a4-8304-79aa-97f2502e193f")
    assert UUID_TEXT.parse("6695eb01f6a4830479aa97f2502e193f") == wanted
    assert UUID_TEXT.parse(" 6695eb01-f6a4-8304-79aa-97f2502e193f ") == wanted
    with pytest.raises(ValueError):
        UUID_TEXT.parse("6695eb01-f6a4-8304-79aa")


def test_mac_is_written_in_full() -> None:
    assert MAC.parse("52:54:0:A:b:c") == "52:54:00:0a:0b:0c"
    with pytest.raises(ValueError):
        MAC.parse("52:54:00:0a:0b")


def test_words_are_the_known_ones() -> None:
    assert words("a", "b").parse("a") == "a"
    with pytest.raises(KeyError):
        words("a", "b").parse("c")
