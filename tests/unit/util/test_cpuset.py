"""Sets of processors in their three forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from util.cpuset import bits_from_cpuset, cpuset_from_bits, parse_cpuset, write_cpuset

NUMBERS = st.frozensets(st.integers(min_value=0, max_value=300))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0", {0}),
        ("0-3", {0, 1, 2, 3}),
        ("0-3,^2", {0, 1, 3}),
        ("7,0-1, 5", {0, 1, 5, 7}),
        ("^1,1", {1}),
    ],
)
def test_text_names_its_numbers(text: str, numbers: set[int]) -> None:
    assert parse_cpuset(text) == numbers


@pytest.mark.parametrize("text", ["", "zzz", "3-1", "1,,2", "-1", "^1-2", "0-99999", "1 2"])
def test_text_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_cpuset(text)


@given(NUMBERS.filter(bool))
def test_what_is_written_is_read_again(numbers: frozenset[int]) -> None:
    assert parse_cpuset(write_cpuset(numbers)) == numbers


@given(NUMBERS)
def test_bits_hold_the_numbers(numbers: frozenset[int]) -> None:
    assert cpuset_from_bits(bits_from_cpuset(numbers, 38)) == numbers


def test_neighbours_are_written_as_a_range() -> None:
    assert write_cpuset({3, 0, 1, 2, 8}) == "0-3,8"
    assert write_cpuset([]) == ""


def test_bits_beyond_the_length_are_left_out() -> None:
    assert bits_from_cpuset({1, 9, 200}, 2) == b"\x02\x02"
