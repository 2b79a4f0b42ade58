"""Proving who one is by SASL, the client's side: PLAIN and SCRAM as steps from a challenge to an answer.

None of these encrypts what follows, so a daemon offers them on unix sockets and inside TLS only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Protocol

ITERATIONS_MAX: Final = 10_000_000
_NONCE_BYTES: Final = 18
_HASHES: Final = {"SCRAM-SHA-512": "sha512", "SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}


class SaslFault(Exception):
    """The other side's part of the proof is not what it should be; the text says why."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who one is, and the secret that only those two know."""

    user: str
    password: str = field(repr=False)


class Mechanism(Protocol):
    """One proof: the first message, then an answer to each challenge."""

    name: str

    def first(self) -> bytes | None:
        """What is sent with the mechanism's name; nothing where the daemon speaks first."""

    def answer(self, challenge: bytes) -> bytes | None:
        """The answer to a challenge. Raises SaslFault."""

    def check(self) -> None:
        """Raises SaslFault when the other side says that all is well before it has proved itself."""


class Plain:
    """The password as it is."""

    name = "PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def first(self) -> bytes:
        return b"\0" + self._credentials.user.encode() + b"\0" + self._credentials.password.encode()

    def answer(self, challenge: bytes) -> bytes:
        return b""

    def check(self) -> None:
        pass


class Scram:
    """A proof that tells neither the password nor anything it could be guessed from (RFC 5802, RFC 7677)."""

    def __init__(self, name: str, credentials: Credentials, nonce: Callable[[], str] | None = None) -> None:
        self.name = name
        self._hash = _HASHES[name]
        self._credentials = credentials
        self._nonce = nonce() if nonce is not None else base64.b64encode(secrets.token_bytes(_NONCE_BYTES)).decode()
        user = credentials.user.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={user},r={self._nonce}"
        self._signature: bytes | None = None
        self._is_proved = False

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def answer(self, challenge: bytes) -> bytes:
        if self._signature is not None:
            self._verify(challenge)
            return b""
        said = _fields(challenge)
        nonce, salt, rounds = said.get("r", ""), said.get("s", ""), said.get("i", "")
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not rounds.isdecimal():
            raise SaslFault("its challenge does not belong to this proof")
        if not 0 < int(rounds) <= ITERATIONS_MAX:
            raise SaslFault(f"it asks for {rounds} rounds")
        try:
            salt_bytes = base64.b64decode(salt, validate=True)
        except ValueError as exc:
            raise SaslFault("its salt cannot be read") from exc
        salted = hashlib.pbkdf2_hmac(self._hash, self._credentials.password.encode(), salt_bytes, int(rounds))
        key = hmac.digest(salted, b"Client Key", self._hash)
        without_proof = f"c=biws,r={nonce}"
        message = f"{self._bare},{challenge.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.new(self._hash, key).digest(), message, self._hash)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", self._hash), message, self._hash)
        return f"{without_proof},p={proof}".encode()

    def check(self) -> None:
        if not self._is_proved:
            raise SaslFault("it did not prove that it knows the password")

    def _verify(self, said: bytes) -> None:
        fields = _fields(said)
        if "e" in fields:
            raise SaslFault(f"it says '{fields['e']}'")
        try:
            shown = base64.b64decode(fields.get("v", ""), validate=True)
        except ValueError as exc:
            raise SaslFault("its proof cannot be read") from exc
        if self._signature is None or not hmac.compare_digest(shown, self._signature):
            raise SaslFault("its proof is wrong: it does not know the password")
        self._is_proved = True


def _fields(message: bytes) -> dict[str, str]:
    try:
        text = message.decode()
    except UnicodeDecodeError as exc:
        raise SaslFault("its message is no text") from exc
    return {m[1]: m[2] for m in re.finditer(r"(?:^|,)([a-zA-Z])=([^,]*)", text)}


def preferred(offered: Collection[str]) -> str | None:
    """The best of the mechanisms offered that are known here; None when there is none."""
    return next((name for name in (*_HASHES, Plain.name) if name in offered), None)


def mechanism(name: str, credentials: Credentials) -> Mechanism:
    """The proof by a mechanism that `preferred` gave."""
    return Plain(credentials) if name == Plain.name else Scram(name, credentials)
