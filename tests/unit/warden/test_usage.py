"""What an actor holds, and may hold."""

import os
import resource

import pytest

from warden.usage import excess, open_files_limit, rss_kib


def test_only_more_than_the_limit_is_too_much() -> None:
    assert excess(4096, 4) is None
    assert excess(5120, 4) == "it held 5 MiB of memory, 4 are allowed"


def test_a_process_holds_memory_until_it_is_gone() -> None:
    assert rss_kib(os.getpid()) > 1000
    assert rss_kib(2**22 + 1) == 0


def test_the_limit_in_force_is_told_not_the_one_that_was_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def prlimit(pid: int, what: int) -> tuple[int, int]:
        asked.append(pid)
        return (1000, 20000) if pid else (1024, 20000)

    monkeypatch.setattr(resource, "prlimit", prlimit)
    assert open_files_limit(7, 65536) == 1000
    assert open_files_limit(0, 65536) == 20000, "it will raise its own as far as it may"
    assert open_files_limit(0, 500) == 500
    assert asked == [7, 0, 0]


def test_without_any_limit_of_the_host_the_configured_one_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, what: int) -> tuple[int, int]:
        raise ProcessLookupError

    monkeypatch.setattr(resource, "prlimit", gone)
    assert open_files_limit(7, 65536) == 65536
