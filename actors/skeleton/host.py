"""The state of the skeleton's process: what the runtime gives, and nothing of its own."""

from __future__ import annotations

from actors.runtime.host import Host


class SkeletonHost(Host):
    """Given to every handler."""
