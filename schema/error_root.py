"""The root of all errors, and the list of classes by which an error finds its meaning again in another process."""

from __future__ import annotations

from typing import Final

from schema.enums.error import ErrorCode, ErrorDomain
from schema.error_formats import format_for

CLASSES: Final[dict[str, type[VirtError]]] = {}
NO_DOMAIN: Final = -1
"""The domain of an error that shall be told without one, where NONE stands for that of the driver."""


class VirtError(Exception):
    """The root: something the caller is told, with a code, an origin and a message.

    `expected` says that the caller can have caused it: such an error is logged as a line, without a traceback.
    A class with `domain` NONE gets the domain of the driver that raised it when the reply is written.
    """

    code: int = ErrorCode.INTERNAL_ERROR
    domain: int = ErrorDomain.NONE
    expected: bool = False

    message: str
    str1: str | None
    str2: str | None
    str3: str | None
    int1: int
    int2: int
    retry_after_s: float | None

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: ErrorCode | None = None,
        domain: int | None = None,
        str3: str | None = None,
        int1: int = -1,
        int2: int = -1,
        retry_after_s: float | None = None,
    ) -> None:
        if code is not None:
            self.code = code
        if domain is not None:
            self.domain = domain
        form = format_for(self.code, with_detail=detail is not None)
        self.message = form if detail is None else form.replace("%s", detail)
        self.str1 = form
        self.str2 = detail
        self.str3 = str3
        self.int1 = int1
        self.int2 = int2
        self.retry_after_s = retry_after_s
        super().__init__(self.message)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        CLASSES[cls.__name__] = cls

    def __str__(self) -> str:
        return self.message

    @property
    def kind(self) -> str:
        """The name under which the meaning travels."""
        return type(self).__name__

    @property
    def detail(self) -> str:
        """The message without the words that every error of this code begins with."""
        return self.message if self.str2 is None else self.str2


CLASSES[VirtError.__name__] = VirtError
