"""`python -m tests.wire --vectors FILE`: whether every message of a recording is read and written back to its bytes.

FILE has the format of the shared corpus' `libvirt-rpc/vectors.json`: messages under `vectors`, whole sessions under
`flows`. Exit status 1 when a message differs, 2 when the file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.wire.recorded import difference, recorded_messages

SHOWN_MAX = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints each difference and a summary."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire", description=__doc__)
    parser.add_argument("--vectors", required=True, type=Path, metavar="FILE", help="the recording")
    parser.add_argument("--quiet", action="store_true", help="the summary alone")
    options = parser.parse_args(arguments)
    try:
        messages = list(recorded_messages(json.loads(options.vectors.read_text(encoding="utf-8"))))
    except (OSError, ValueError, LookupError, TypeError) as exc:
        print(f"'{options.vectors}' is no recording: {exc}", file=sys.stderr)
        return 2
    differing = 0
    kinds: Counter[str] = Counter()
    names = set()
    for message in messages:
        name, _, kind = message.label.partition(" ")
        names.add(name)
        kinds[kind.split(" ")[0] or "?"] += 1
        found = difference(message)
        if found is not None:
            differing += 1
            if not options.quiet and differing <= SHOWN_MAX:
                print(f"{message.where}: {message.label}: {found[:1000]}")
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    print(f"{len(messages)} messages of {len(names)} procedures ({told}): {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
