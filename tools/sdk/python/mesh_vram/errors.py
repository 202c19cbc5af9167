"""What may go wrong, one exception for each thing that a caller would do differently."""

from . import _library


class VramError(Exception):
    """All errors of this module. str() says what happened and what to do.

    rule           a fixed word for programs, e.g. "never_fits"
    hint           what to do about it
    largest_bytes  of TooLarge: what could be granted; otherwise 0
    """

    def __init__(self, text: str, hint: str = "", rule: str = "", largest_bytes: int = 0) -> None:
        super().__init__(f"{text} — {hint}" if hint else text)
        self.hint, self.rule, self.largest_bytes = hint, rule, largest_bytes


class Invalid(VramError, ValueError):
    """The request makes no sense: a bug of the caller."""


class Unreachable(VramError, ConnectionError):
    """No arbiter listens there, or it stayed away for 15 s. Leases are held all the same."""


class TooLarge(VramError, MemoryError):
    """It never fits on a card of this host; largest_bytes would."""


class TimedOut(VramError, TimeoutError):
    """The memory was not to be had within `wait`."""


class Busy(VramError):
    """Too many leases, waiters, or users of the same weights: try later."""


class Policed(VramError):
    """This process uses more than it leased, and gets no more before it gave that back."""


class Unsupported(VramError):
    """This host hands out no memory, or this memory has no address for the processor."""


class Lost(VramError):
    """The lease is not this process's any more: free what it held, release it, acquire anew."""


class NoMemory(VramError, MemoryError):
    """The driver or the kernel had none, whatever the books say."""


class Closed(VramError):
    """The connection was closed, or the lease was released."""


class Internal(VramError):
    """The arbiter answered what this library does not know."""


OF_CODE = {1: Invalid, 2: Unreachable, 3: TooLarge, 4: TimedOut, 5: Busy, 6: Policed, 7: Unsupported, 8: Lost,
           9: NoMemory, 10: Closed}


def of(error: _library.Error) -> VramError:
    text, hint, rule = (part.decode(errors="replace") for part in (error.text, error.hint, error.rule))
    return OF_CODE.get(error.code, Internal)(text, hint, rule, error.largest_bytes)
