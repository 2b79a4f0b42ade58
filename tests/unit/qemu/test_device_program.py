"""Lists of devices as programs, run by a small machine that knows the kernel's instructions."""

from __future__ import annotations

import itertools
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.qemu.confining.device_program import INSTRUCTION_BYTES, device_program

BLOCK, CHARACTER = 1, 2
MAKE, READ, WRITE = 1, 2, 4
MASK = 0xFFFFFFFF


def run(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """What a program answers; every rule of the kernel's verifier that it could break is an error."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    registers: dict[int, int | str] = {1: "context"}
    instructions = list(struct.iter_unpack("=BBhi", program))
    place = 0
    for _ in range(len(instructions)):  # only forward
        code, both, offset, value = instructions[place]
        target, source = (both & 15, both >> 4) if sys.byteorder == "little" else (both >> 4, both & 15)
        place += 1
        match code:
            case 0x61:
                assert registers[source] == "context" and offset % 4 == 0
                registers[target] = struct.unpack_from("=I", context, offset)[0]
            case 0x54 | 0x74:
                known = registers[target]
                assert isinstance(known, int)
                registers[target] = known & value & MASK if code == 0x54 else known >> value
            case 0xB4:
                registers[target] = value & MASK
            case 0xBC:
                known = registers[source]
                assert isinstance(known, int)
                registers[target] = known
            case 0x55:
                assert isinstance(registers[target], int) and offset >= 0
                place += offset if registers[target] != value else 0
                assert place < len(instructions)
            case 0x95:
                answer = registers[0]
                assert isinstance(answer, int)
                return answer
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")
    raise AssertionError("it did not end")


def test_what_a_line_names_is_allowed_and_nothing_else() -> None:
    program = device_program(["c 136:* rw", "c 1:3 rw", "b 8:16 r"])
    assert len(program) % INSTRUCTION_BYTES == 0
    assert run(program, CHARACTER, READ | WRITE, 1, 3) == 1
    assert run(program, CHARACTER, READ, 136, 77) == 1
    assert run(program, BLOCK, READ, 8, 16) == 1
    for refused in (
        (BLOCK, READ, 1, 3),
        (CHARACTER, MAKE, 1, 3),
        (CHARACTER, READ, 1, 4),
        (BLOCK, WRITE, 8, 16),
        (BLOCK, READ | WRITE, 8, 16),
        (CHARACTER, READ, 8, 16),
    ):
        assert run(program, *refused) == 0


def test_no_line_allows_nothing_and_all_allows_all() -> None:
    for kind, access, major in itertools.product((BLOCK, CHARACTER), range(1, 8), (0, 1, 511)):
        assert run(device_program([]), kind, access, major, 0) == 0
        assert run(device_program(["a *:* rwm"]), kind, access, major, 9) == 1


RULES = st.tuples(
    st.sampled_from("abc"), st.sampled_from(["*", "0", "1", "2"]), st.sampled_from(["*", "0", "1"]),
    st.sets(st.sampled_from("rwm"), min_size=1),
)  # fmt: skip


@given(st.lists(RULES, max_size=8), st.sampled_from((BLOCK, CHARACTER)), st.integers(1, 7), st.integers(0, 3))
def test_programs_say_what_their_lines_say(
    rules: list[tuple[str, str, str, set[str]]], kind: int, access: int, major: int
) -> None:
    program = device_program(f"{one} {two}:{three} {''.join(four)}" for one, two, three, four in rules)
    wanted = {name for name, bit in (("m", MAKE), ("r", READ), ("w", WRITE)) if access & bit}
    for minor in range(3):
        expected = any(
            one in ("a", "b" if kind == BLOCK else "c")
            and two in ("*", str(major))
            and three in ("*", str(minor))
            and wanted <= four
            for one, two, three, four in rules
        )
        assert run(program, kind, access, major, minor) == int(expected)


@pytest.mark.parametrize("line", ["", "c 1:3", "x 1:3 rw", "c 1 rw", "c 1:3 rwx", "c one:3 rw"])
def test_a_line_that_says_nothing_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is no line of a list of devices"):
        device_program([line])
