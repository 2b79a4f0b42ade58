"""The errors a call can end in, one class per meaning.

They are the schema's own classes: what a driver raised is what the caller catches. `VirtError` is the root of all.
"""

from __future__ import annotations

from schema.errors import *  # noqa: F403
from schema.errors import VirtError as VirtError
