"""A Kerberos key server of the test's own, on loopback, with all its files in one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.gateway_house import wait_for
from tests.process.test_gateway_tls import free_port

REALM = "VIRTROUPE.TEST"
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
PLUGINS = ("/usr/lib/x86_64-linux-gnu/sasl2", "/usr/lib/aarch64-linux-gnu/sasl2", "/usr/lib64/sasl2", "/usr/lib/sasl2")


class KeyServer:
    """Its environment for whoever takes part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = {
            "KRB5_CONFIG": str(folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
            "KRB5_KTNAME": str(folder / "keytab"),
            "KRB5CCNAME": f"FILE:{folder / 'tickets'}",
            "KRB5RCACHEDIR": str(folder),
        }

    def run(self, *words: str, told: str = "") -> None:
        subprocess.run(
            words, input=told, env={**os.environ, **self.environment}, check=True, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    def make(self) -> None:
        """Writes everything down."""
        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " dns_canonicalize_hostname = false\n rdns = false\n ignore_acceptor_hostname = true\n"
            f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{self.port}\n }}\n[domain_realm]\n localhost = {REALM}\n"
            f"[logging]\n kdc = FILE:{self.folder / 'kdc.log'}\n"
        )
        (self.folder / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{self.port}\n kdc_tcp_listen = 127.0.0.1:{self.port}\n"
            f"[realms]\n {REALM} = {{\n  database_name = {self.folder / 'principal'}\n"
            f"  key_stash_file = {self.folder / 'stash'}\n  acl_file = {self.folder / 'acl'}\n }}\n"
        )
        self.run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        self.run("kadmin.local", "-q", "addprinc -pw secret fred")
        self.run("kadmin.local", "-q", "addprinc -randkey libvirt/localhost")
        self.run("kadmin.local", "-q", f"ktadd -k {self.folder / 'keytab'} libvirt/localhost")

    def log_in(self) -> None:
        """Gets a ticket for fred."""
        self.run("kinit", "fred", told="secret\n")


@contextmanager
def key_server() -> Iterator[KeyServer]:
    """Runs one; skips where the host has none, or its SASL library no way to ask it."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no Kerberos here: {', '.join(missing)}")
    if not any(Path(folder, "libgssapiv2.so").exists() for folder in PLUGINS):
        pytest.skip("libsasl2 has no GSSAPI here")
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as name:
        made = KeyServer(Path(name))
        made.make()
        process = subprocess.Popen(
            ["krb5kdc", "-n"], env={**os.environ, **made.environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            log = made.folder / "kdc.log"
            wait_for("the key server works", lambda: log.exists() and "commencing operation" in log.read_text(), 60)
            yield made
        finally:
            process.kill()
            process.wait(timeout=60)
