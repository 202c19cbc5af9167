"""A card for processes that allocate by themselves: so much memory, whoever comes first, and an error when it is used up.

What a GPU's driver is to them: it tells what is free, hands out, and takes back from who died. The books are in a file.
"""
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutOfMemory(Exception):
    """The card has no more."""


def is_alive(pid: str) -> bool:
    """One that ended and was not waited for has no memory any more."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Card:
    def __init__(self, path: Path, total: int = 0) -> None:
        """`total` in bytes makes it; without, it was made."""
        self.path = path
        if total:
            path.write_text(json.dumps({"total": total, "held": {}}))

    @contextmanager
    def _books(self) -> Iterator[dict]:
        with open(self.path, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            books = json.load(file)
            books["held"] = {pid: held for pid, held in books["held"].items() if is_alive(pid)}
            yield books
            file.seek(0)
            json.dump(books, file)
            file.truncate()

    def free(self) -> int:
        with self._books() as books:
            return books["total"] - sum(books["held"].values())

    def take(self, count: int) -> None:
        """OutOfMemory, or it is this process's."""
        with self._books() as books:
            if sum(books["held"].values()) + count > books["total"]:
                raise OutOfMemory(f"{count >> 20} MiB more are not free")
            pid = str(os.getpid())
            books["held"][pid] = books["held"].get(pid, 0) + count

    def give_back(self) -> None:
        """All of this process's."""
        with self._books() as books:
            books["held"].pop(str(os.getpid()), None)
