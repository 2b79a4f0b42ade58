"""An authority and certificates for tests of TLS, made by the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Signs certificates below a folder; each gets a folder as libvirt's clients want it (`pkipath`)."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "cacert.pem"
        self._key = folder / "cakey.pem"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate,
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def server(self, names: str = "DNS:localhost,IP:127.0.0.1") -> Path:
        """The folder of a server's `servercert.pem` and `serverkey.pem`."""
        return self._make("server", "/O=Virtroupe/CN=localhost", "serverAuth", f"subjectAltName={names}")

    def client(self, name: str) -> Path:
        """The folder of a client's `clientcert.pem`, `clientkey.pem` and `cacert.pem`."""
        folder = self._make("client", f"/C=GB/O=Virtroupe/CN={name}", "clientAuth", "")
        (folder / "cacert.pem").write_bytes(self.certificate.read_bytes())
        return folder

    def _make(self, kind: str, subject: str, usage: str, extension: str) -> Path:
        folder = self.folder / subject.rpartition("=")[2]
        folder.mkdir()
        request, extensions = folder / "request.pem", folder / "extensions"
        extensions.write_text(
            f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage={usage}\n"
            f"{extension}\n"
        )
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
            "-keyout", folder / f"{kind}key.pem", "-out", request,
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", folder / f"{kind}cert.pem",
        )  # fmt: skip
        return folder

    @staticmethod
    def _openssl(*words: str | Path) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, stdin=subprocess.DEVNULL)
