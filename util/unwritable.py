"""Why a folder takes no files at the moment, though nothing is wrong with what is in it."""

from __future__ import annotations

import errno
from typing import Final

UNWRITABLE: Final = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM})


def is_unwritable(exc: OSError) -> bool:
    """Whether an error only says that nothing can be written there: reading goes on."""
    return exc.errno in UNWRITABLE
