"""What the configuration file may say, and what is said of a file that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings.config import Config, ConfigError, load_config, parse_config
from settings.describe import describe_config
from settings.drivers import check_actors, default_uris

FILE = "/etc/virtroupe/virtroupe.toml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense = 1", r"unknown key 'nonsense'\. Known here: actors, broker"),
        ("[brokr]\nheartbeat_s = 1.0", "unknown key 'brokr'"),
        ("[broker]\nheartbeet_s = 1.0", r"unknown key 'broker\.heartbeet_s'\. Known here: .*heartbeat_s"),
        ("[actors.test]\nmemory = 1", r"unknown key 'actors\.test\.memory'\. Known here: .*memory_mib"),
        ('[broker]\nheartbeat_s = "often"', r"Expected `float`, got `str` - at `\$\.broker\.heartbeat_s`"),
        ("[broker]\nheartbeat_s = 0.0", r"\$\.broker\.heartbeat_s"),
        ('[journal]\nsync = "sometimes"', r"\$\.journal\.sync"),
        ('[log]\nlevel = "loud"', r"\$\.log\.level"),
        ("[broker", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        parse_config(text, FILE)
    assert f"'{FILE}'" in str(caught.value)


def test_limits_of_a_driver_that_there_is_not_are_refused() -> None:
    check_actors(parse_config("[actors.esx]\nmemory_mib = 64\n[actors.test]\nopen_files = 9", FILE), Path(FILE))
    with pytest.raises(ConfigError, match=r"unknown key 'actors\.qmeu'\. Known here: .*qemu"):
        check_actors(parse_config("[actors.qmeu]\nmemory_mib = 64", FILE), Path(FILE))


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none.toml") == Config()


def test_what_is_described_can_be_read_again() -> None:
    config = parse_config("[actors.test]\nmemory_mib = 96\n[broker]\nallow = ['group:kvm']", FILE)
    assert parse_config(describe_config(Config()), FILE) == Config()
    assert parse_config(describe_config(config), FILE) == config


def test_an_ordinary_users_agent_means_the_session() -> None:
    assert dict(default_uris(0))["qemu"] == "qemu:///system"
    assert dict(default_uris(1000))["qemu"] == "qemu:///session"
