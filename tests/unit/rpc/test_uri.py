from __future__ import annotations

import pytest

from rpc.uri import UriError, parse_remote_uri


@pytest.mark.parametrize(
    ("text", "transport", "name"),
    [
        ("qemu+unix:///system?socket=/x/s", "unix", "qemu:///system"),
        ("test+tcp://host:1234/default", "tcp", "test:///default"),
        ("qemu://host/system", "tls", "qemu:///system"),
        ("qemu+ssh://me@host/session?keyfile=/k&foo=b%20c", "ssh", "qemu:///session?foo=b%20c"),
        ("qemu+tls://host/system?name=xen%3A%2F%2F%2F", "tls", "xen:///"),
        ("qemu+ext:///system?command=/bin/x", "ext", "qemu:///system"),
        ("qemu+unix:///system?name=", "unix", ""),
    ],
)
def test_the_daemon_is_told_what_concerns_it(text: str, transport: str, name: str) -> None:
    uri = parse_remote_uri(text)
    assert (uri.transport, uri.name) == (transport, name)


def test_host_user_port_and_verification_are_told() -> None:
    uri = parse_remote_uri("qemu+ssh://me@[fe80::1]:22/system?no_verify=1")
    assert (uri.host, uri.user, uri.port, uri.verifies) == ("fe80::1", "me", 22, False)


@pytest.mark.parametrize(
    "text", ["", "//x", "qemu+carrier://h/", "qemu+tcp:///system", "qemu+ext:///system", "qemu+tcp://h:x/system"]
)
def test_what_leads_nowhere_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UriError, match=r"URI|transport"):
        parse_remote_uri(text)
