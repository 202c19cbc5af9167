"""Which process listens at a port of this host, and whether it lives."""

import ipaddress
import os
import select
import socket
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _inodes(port: int) -> set[str]:
    found = set()
    for table in TABLES:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def pid_at(host: str, port: int) -> int | None:
    """None if it is on another host, in another network namespace, or another user's whose descriptors are hidden."""
    if not _is_local(host):
        return None
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not wanted:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it ended
            for descriptor in os.listdir(process / "fd"):
                with suppress(OSError):
                    if os.readlink(process / "fd" / descriptor) in wanted:
                        return int(process.name)
    return None


class Listener:
    """The process at host:port: found while it serves, known to be gone when it died."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.pid: int | None = None
        self._pidfd: int | None = None

    def find(self) -> None:
        """Call it while the server answers; looks only if none is known or that one died."""
        if self.pid is not None and not self.is_gone():
            return
        self.forget()
        if (pid := pid_at(self.host, self.port)) is not None:
            try:
                self._pidfd = os.pidfd_open(pid)
                self.pid = pid
            except OSError:
                pass

    def is_gone(self) -> bool:
        """Only of one that was found: its process ended."""
        try:
            return self._pidfd is not None and bool(select.select([self._pidfd], [], [], 0)[0])
        except (OSError, ValueError):  # forgotten by another thread just now
            return False

    def forget(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._pidfd = self.pid = None


def is_loopback(text: str) -> tuple[str, int] | None:
    """HOST:PORT if HOST is this computer's loopback; None if not."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit() or int(port) > 65535 or not _is_local(host):
        return None
    return socket.gethostbyname(host) if host == "localhost" else host, int(port)
