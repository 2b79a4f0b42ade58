from __future__ import annotations

from pathlib import Path

import pytest

from remoting.credentials import Prover, auth_file, credentials_for, read_credentials
from rpc.sasl import Credentials
from rpc.uri import parse_remote_uri
from schema.errors import AuthCancelled, AuthUnavailable, RpcError
from util.sasl import SaslError

FILE = """
# who we are elsewhere
[credentials-test]
authname=fred
password=123456
[credentials-prod]
authname = bar
password = se=cret

[auth-libvirt-test1.example.com]
credentials=test
[auth-libvirt-default]
credentials=prod
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "auth.conf"
    path.write_text(FILE)
    return path


def test_a_host_has_its_own_credentials_others_the_default(path: Path) -> None:
    assert read_credentials(path, "test1.example.com") == Credentials("fred", "123456")
    assert read_credentials(path, "localhost") == Credentials("bar", "se=cret")


def test_a_file_without_a_group_for_the_host_has_none(tmp_path: Path) -> None:
    path = tmp_path / "auth.conf"
    path.write_text("[auth-libvirt-a]\ncredentials=x\n[credentials-x]\npassword=p\n")
    assert read_credentials(path, "b") is None
    assert read_credentials(path, "a") is None
    assert read_credentials(path, "a", "me") == Credentials("me", "p")


@pytest.mark.parametrize(
    "text", ["[auth-libvirt-h]\n", "[auth-libvirt-h]\ncredentials=none\n", "no group=1\n", "\udcff"]
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RpcError, match=r"auth\.conf"):
        read_credentials(path, "h")


def test_the_uri_names_the_file_and_the_daemon_is_not_told(path: Path) -> None:
    uri = parse_remote_uri(f"qemu+tls://test1.example.com/system?authfile={path}")
    assert uri.name == "qemu:///system"
    assert auth_file(uri) == path
    assert credentials_for(uri) == Credentials("fred", "123456")


def test_the_environment_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBVIRT_AUTH_FILE", str(path))
    assert credentials_for(parse_remote_uri("qemu+unix:///system")) == Credentials("bar", "se=cret")


def test_who_is_not_in_a_file_is_asked(tmp_path: Path) -> None:
    empty = tmp_path / "auth.conf"
    empty.write_text("")
    uri = parse_remote_uri(f"qemu+tls://h/system?authfile={empty}")
    assert credentials_for(uri, lambda host: (f"me at {host}", "p")) == Credentials("me at h", "p")
    with pytest.raises(AuthCancelled):
        credentials_for(uri, lambda host: None)
    with pytest.raises(AuthUnavailable, match="has none for it"):
        credentials_for(uri)


def test_the_best_mechanism_that_needs_no_library_is_taken(path: Path) -> None:
    prover = Prover(parse_remote_uri(f"qemu+tls://h/system?authfile={path}"), None, None)
    prover.prepare(["PLAIN", "DIGEST-MD5", "SCRAM-SHA-1"])
    assert not prover.uses_library
    assert prover(["PLAIN", "DIGEST-MD5", "SCRAM-SHA-1"]).name == "SCRAM-SHA-1"
    assert prover.layer is None


def test_what_is_offered_is_named_where_the_library_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise SaslError("this host has no libsasl2")

    monkeypatch.setattr("remoting.credentials.client_library", missing)
    for uri, offered in (("qemu+tls://h/system", "GSSAPI"), ("qemu+tcp://h/system", "DIGEST-MD5")):
        prover = Prover(parse_remote_uri(f"{uri}?authfile={path}"), None, None)
        with pytest.raises(AuthUnavailable, match=f"offers the SASL mechanisms {offered}; without libsasl2"):
            prover.prepare([offered])


def test_a_daemon_that_offers_nothing_is_refused(path: Path) -> None:
    with pytest.raises(AuthUnavailable, match="offers no mechanism"):
        Prover(parse_remote_uri(f"qemu+tls://h/system?authfile={path}"), None, None).prepare([])
