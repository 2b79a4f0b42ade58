"""The codec costs nothing before it is used: what only it needs is loaded then."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ("msgspec", "schema.table", "schema.objects", "rpc.xdr_source", "rpc.xdr_writer_source", "dataclasses")
SCRIPT = "import json, sys; import rpc.session, rpc.xdr; print(json.dumps(sorted(sys.modules)))"


def test_importing_the_codec_loads_neither_table_nor_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert not set(HEAVY) & set(json.loads(done.stdout))
