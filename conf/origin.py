"""Which part of libvirt an error is told to come from: that of the document, unless the error knows better."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schema.errors import ErrorDomain, VirtError


@contextmanager
def told_by(domain: ErrorDomain) -> Iterator[None]:
    """Gives errors that name no origin this one; as a block or around a function."""
    try:
        yield
    except VirtError as exc:
        if exc.domain == ErrorDomain.NONE:
            exc.domain = domain
        raise
