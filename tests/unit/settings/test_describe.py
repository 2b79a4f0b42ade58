"""The configuration as a document."""

import dataclasses

import pytest

from settings.config import ActorSettings, BrokerSettings, Config, WardenSettings, parse_config
from settings.describe import describe_config, meanings, toml_value


def test_what_is_printed_can_be_read_again() -> None:
    given = parse_config('[broker]\nallow = ["user:a", "group:b"]\n[actors.qemu]\nuser = "x\\"y"\nspare = false\n', "t")
    assert parse_config(describe_config(given), "printed") == given


def test_the_defaults_are_printed_with_an_example_of_a_driver() -> None:
    text = describe_config(Config())
    assert parse_config(text, "printed") == Config()
    assert "# [actors.NAME]" in text
    assert f"# memory_mib = {ActorSettings().memory_mib}  # resident memory" in text


@pytest.mark.parametrize("cls", [ActorSettings, WardenSettings])
def test_every_key_says_what_it_means(cls: type) -> None:
    said = meanings(cls)
    assert {field.name for field in dataclasses.fields(cls)} == set(said)


def test_the_meaning_of_a_default_that_takes_several_lines_is_found() -> None:
    assert "user:NAME" in meanings(BrokerSettings)["allow"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (3, "3"), (0.5, "0.5"), ("a\\b", '"a\\\\b"'), (("x", "y"), '["x", "y"]'), ((), "[]")],
)
def test_values_are_written_as_toml_has_them(value: object, text: str) -> None:
    assert toml_value(value) == text
