"""A model of a foreign server, as its adapter knows it."""

from contextlib import ExitStack
from dataclasses import dataclass, field

from ..leases import Lease

NO_MEMORY = "no_memory"


class NotAdmitted(Exception):
    """A request did not get the memory it needs. `rule` is a word for programs, `again` whether trying later may help."""

    def __init__(self, rule: str, text: str, hint: str = "", again: bool = True) -> None:
        super().__init__(text)
        self.rule, self.hint, self.again = rule, hint, again


@dataclass
class Model:
    name: str
    size: int | None = None  # as the server says, or said
    leases: list[Lease] = field(default_factory=list)
    loading: list[Lease] = field(default_factory=list)  # of them, those not committed yet
    ticket: str | None = None  # of the lease that was offloaded
    job: str = ""  # "lease" or "unload"
    failure: NotAdmitted | None = None  # of the last job
    failures: int = 0
    is_loaded: bool = False
    is_ready: bool = False
    is_closed: bool = False  # to new requests, while it is tried to unload it
    is_asked: bool = False  # the arbiter waits for an answer
    running: int = 0  # requests that came through the front
    waiting_since: list[float] = field(default_factory=list)
    used_at: float = 0.0
    asked_at: float = 0.0  # when a lease for it was last refused
    uses: ExitStack = field(default_factory=ExitStack)

    @property
    def leased(self) -> int:
        return sum(lease.bytes for lease in self.leases)

    @property
    def is_open(self) -> bool:
        """To requests."""
        return bool(self.leases) and self.is_ready and not self.is_closed
