"""Writes a SASL database: `python -m tests.process.sasl_users DATABASE NAME PASSWORD ...`."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

from gateway.auth.sasl_library import SaslLibrary

ROOT = Path(__file__).parents[2]
CREATE = 1


def write_users(database: Path, users: dict[str, str]) -> None:
    """In a process of its own: the library is set up once in each."""
    words = [word for pair in users.items() for word in pair]
    command = [sys.executable, "-m", "tests.process.sasl_users", str(database), *words]
    subprocess.run(command, check=True, timeout=60, cwd=ROOT)


def main(database: str, *words: str) -> None:
    options = {"sasldb_path": database, "pwcheck_method": "auxprop", "auxprop_plugin": "sasldb"}
    library = SaslLibrary(options, lambda level, message: None)
    session = library.session(None, None)
    setpass = library.lib.sasl_setpass
    setpass.argtypes = (
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint
    )  # fmt: skip
    for name, password in zip(words[::2], words[1::2], strict=True):
        secret = password.encode()
        code = setpass(session._connection, name.encode(), secret, len(secret), None, 0, CREATE)
        if code != 0:
            sys.exit(f"no user '{name}': {library.words(code)}")
    session.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
