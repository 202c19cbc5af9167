"""What processes and links cost, read from /proc."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """CPU seconds and context switches; differences and sums of readings are readings again."""
    cpu_s: float = 0.0
    switches: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu_s + other.cpu_s, self.switches + other.switches)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.cpu_s - other.cpu_s, self.switches - other.switches)


def usage_of_sessions(leaders: set[int]) -> dict[int, Usage]:
    """Usage so far of each session, by its leader's pid: a process we started, its live children (the stages of a
    translation) and the CPU of those it has waited for (a tesseract per image; their switches the kernel forgets)."""
    found = {leader: Usage() for leader in leaders}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            session = int(fields[3])
            if session in leaders:
                waited_for = Usage((int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND)
                found[session] += waited_for + usage_of_tasks(entry.path)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return found


def usage_of_tasks(process: str) -> Usage:
    total = Usage()
    for task in Path(process, "task").iterdir():
        # schedstat counts nanoseconds; stat counts ticks of 10 ms, too coarse for a sidecar that works in microseconds.
        total.cpu_s += int((task / "schedstat").read_text().split()[0]) / 1e9
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total.switches += int(line.rpartition(":")[2])
    return total


@dataclass
class Memory:
    """KiB; pss shares pages among the processes that map them, anonymous is what is nobody else's."""
    pss: int = 0
    anonymous: int = 0
    rss: int = 0


def memory_of(pids: list[int]) -> Memory:
    total = Memory()
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                total.pss += int(value.split()[0])
            elif name == "Anonymous":
                total.anonymous += int(value.split()[0])
            elif name == "Rss":
                total.rss += int(value.split()[0])
    return total


def transmitted_bytes(pid: int, device: str) -> int:
    """Bytes sent so far by a device of the network namespace that `pid` is in."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            return int(numbers.split()[8])
    raise ValueError(f"no device {device} in the namespace of process {pid}")


def established(addresses: set[str], ports: set[int], pid: int | str = "self") -> int:
    """TCP connections to one of the IPv4 addresses and ports, counted at the end that opened them, in the network
    namespace that `pid` is in."""
    remote = {f"{bytes(map(int, reversed(address.split('.')))).hex().upper()}:{port:04X}"
              for address in addresses for port in ports}
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    return sum(row[3] == "01" and row[2] in remote for row in rows)
