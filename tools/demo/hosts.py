"""Two hosts on one computer: two network namespaces joined by a veth pair (root), or two loopback addresses."""
from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from collections.abc import Iterator
from pathlib import Path

from demo import usage

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6
NAMESPACE_PREFIX = "mesh-run-"
LAN_DELAY_MS = 0.3


class HostsError(Exception):
    """The hosts could not be set up; the text says what to do."""


@dataclass
class LinkCount:
    """What went between the hosts so far. None: cannot be counted in this mode."""
    connections: int | None
    wire_bytes: int | None


class Hosts:
    """Where the processes of a run live and how they reach each other. Close it to leave nothing behind."""

    names: list[str]
    description: str

    def address(self, host: str) -> str:
        """The IPv4 address of a host's own end of the link."""
        raise NotImplementedError

    def address_seen_from(self, other: str, host: str) -> str:
        """The address under which `other` reaches `host`; differs from address() where a relay stands in between."""
        raise NotImplementedError

    def local_address(self, host: str) -> str:
        """The loopback address of agents and drop-in ports."""
        raise NotImplementedError

    def command(self, host: str, command: list[str]) -> list[str]:
        """The command, so that it runs on that host; the pid stays that of the command."""
        raise NotImplementedError

    def environment(self, host: str) -> dict[str, str]:
        """What agents on that host need in their environment."""
        raise NotImplementedError

    def count(self) -> LinkCount:
        raise NotImplementedError

    def established(self, ports: set[int]) -> int:
        """TCP connections between the hosts, at this moment, to one of these ports."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class NamespaceHosts(Hosts):
    """Needs root. Every byte between the hosts crosses a veth pair of their own, so all of it can be counted."""

    def __init__(self, addresses: dict[str, str], lan: bool) -> None:
        self.names = list(addresses)
        self.addresses = addresses
        self.lan = lan
        self.run_id = f"{NAMESPACE_PREFIX}{os.getpid()}-"
        self.holders: dict[str, subprocess.Popen] = {}
        self.delay: subprocess.Popen | None = None
        self.syn_counter: socket.socket | None = None
        self.connections = 0
        self.description = "two network namespaces joined by veth" + (f", {LAN_DELAY_MS} ms each way" if lan else "")
        remove_orphans()
        try:
            self.set_up()
        except BaseException:
            self.close()
            raise

    def set_up(self) -> None:
        first, second = self.names
        wire = "wire" if self.lan else None
        for name in filter(None, (first, second, wire)):
            ip("netns", "add", self.namespace(name))
        if wire:
            for name in self.names:
                ip("link", "add", "wire0", "netns", self.namespace(name), "type", "veth",
                   "peer", "name", name, "netns", self.namespace(wire))
        else:
            ip("link", "add", "wire0", "netns", self.namespace(first), "type", "veth",
               "peer", "name", "wire0", "netns", self.namespace(second))
        for name in self.names:
            ip("-n", self.namespace(name), "address", "add", f"{self.addresses[name]}/24", "dev", "wire0")
            ip("-n", self.namespace(name), "link", "set", "wire0", "up")
            ip("-n", self.namespace(name), "link", "set", "lo", "up")
            # /proc/PID/net shows the namespace of a process, so each host has one that lives as long as the run.
            self.holders[name] = subprocess.Popen(self.command(name, ["sleep", "infinity"]), start_new_session=True,
                                                  stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        if wire:
            self.start_delay(wire)
        with inside(self.namespace(first)):
            self.syn_counter = open_syn_counter("wire0")

    def start_delay(self, wire: str) -> None:
        for name in self.names:
            ip("-n", self.namespace(wire), "link", "set", name, "up")
            with inside(self.namespace(name)):
                switch_offloads_off("wire0")
        script = Path(__file__).parent / "delay_frames.py"
        self.delay = subprocess.Popen(["ip", "netns", "exec", self.namespace(wire), sys.executable, str(script),
                                       *self.names, str(LAN_DELAY_MS)],
                                      start_new_session=True, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)

    def namespace(self, host: str) -> str:
        return self.run_id + host

    def address(self, host: str) -> str:
        return self.addresses[host]

    def address_seen_from(self, other: str, host: str) -> str:
        return self.addresses[host]

    def local_address(self, host: str) -> str:
        return "127.0.0.1"

    def command(self, host: str, command: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(host), *command]

    def environment(self, host: str) -> dict[str, str]:
        return {}

    def count(self) -> LinkCount:
        # Reading clears the counter. It counts what the filter lets through, whether or not anybody reads the packets.
        packets, _ = struct.unpack("II", self.syn_counter.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.connections += packets
        return LinkCount(self.connections, sum(usage.transmitted_bytes(holder.pid, "wire0")
                                               for holder in self.holders.values()))

    def established(self, ports: set[int]) -> int:
        remote = set(self.addresses.values())
        return sum(usage.established(remote, ports, holder.pid) for holder in self.holders.values())

    def close(self) -> None:
        if self.syn_counter:
            self.syn_counter.close()
        for process in filter(None, [self.delay, *self.holders.values()]):
            process.kill()
            process.wait()
        for name in [*self.names, "wire"]:
            if Path("/run/netns", self.namespace(name)).exists():
                ip("netns", "delete", self.namespace(name))


class LoopbackHosts(Hosts):
    """Needs no rights: the hosts are 127.0.N.1 and 127.0.N.2. What joins them is the loopback device, whose counters
    are everybody's, so bytes between the hosts are counted only by the relay that --lan puts in between."""

    def __init__(self, names: list[str], ports: list[int], relayed: list[int]) -> None:
        """`ports`: all that this run listens on; `relayed`: those reached through the relay, none without --lan."""
        self.names = names
        self.net = free_loopback_net(ports)
        self.relay: subprocess.Popen | None = None
        self.description = "two loopback addresses" + (f", {LAN_DELAY_MS} ms each way" if relayed else "")
        if relayed:
            script = Path(__file__).parent / "delay_streams.py"
            routes = [f"{self.net}.{number + 100}={self.net}.{number}" for number in (1, 2)]
            self.relay = subprocess.Popen([sys.executable, str(script), str(LAN_DELAY_MS), ",".join(map(str, relayed)),
                                           *routes], start_new_session=True, stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, text=True, bufsize=1, preexec_fn=die_with_parent)
            self.count()

    def address(self, host: str) -> str:
        return f"{self.net}.{self.names.index(host) + 1}"

    def address_seen_from(self, other: str, host: str) -> str:
        return f"{self.net}.{self.names.index(host) + 101}" if self.relay else self.address(host)

    def local_address(self, host: str) -> str:
        return self.address(host)

    def command(self, host: str, command: list[str]) -> list[str]:
        return command

    def environment(self, host: str) -> dict[str, str]:
        # Without it the demo agents would offer themselves to the whole network that this computer is in.
        return {"BIND_ADDRESS": self.address(host)}

    def count(self) -> LinkCount:
        if not self.relay:
            return LinkCount(None, None)
        self.relay.stdin.write("count\n")
        line = self.relay.stdout.readline().split()
        if len(line) != 2:
            raise HostsError("the relay between the hosts ended by itself")
        return LinkCount(int(line[0]), int(line[1]))

    def established(self, ports: set[int]) -> int:
        first, second = self.names
        addresses = {self.address_seen_from(first, second), self.address_seen_from(second, first)}
        return usage.established(addresses, ports)

    def close(self) -> None:
        if self.relay:
            self.relay.kill()
            self.relay.wait()


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise HostsError(f"ip {' '.join(arguments)}: {done.stderr.strip()}\n"
                         "If this machine allows no network namespaces, use --loopback.")


def remove_orphans() -> None:
    """Namespaces of a run that was killed outright: its pid is in the name and no longer lives."""
    for path in Path("/run/netns").glob(f"{NAMESPACE_PREFIX}*"):
        pid = path.name.removeprefix(NAMESPACE_PREFIX).partition("-")[0]
        if not pid.isdigit() or Path("/proc", pid).exists():
            continue
        listed = subprocess.run(["ip", "netns", "pids", path.name], capture_output=True, text=True, check=False)
        for left in listed.stdout.split():
            os.kill(int(left), signal.SIGKILL)
        ip("netns", "delete", path.name)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread is in the network namespace for as long; a socket belongs for ever to the one it was opened in."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if LIBC.setns(there, CLONE_NEWNET) != 0:
            raise HostsError(f"setns {namespace}: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        LIBC.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)


def open_syn_counter(device: str) -> socket.socket:
    """A packet socket that sees only the first segment of each TCP connection, in either direction."""
    # Of an IPv4 packet without options: protocol at 9 is TCP, and of the flags at 20 + 13 SYN is set and ACK is not.
    program = [(0x30, 0, 0, 9), (0x15, 0, 4, 6), (0x30, 0, 0, 33), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02),
               (0x06, 0, 0, 64), (0x06, 0, 0, 0)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    counter = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    attach_filter = 26
    counter.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("HL", len(program), ctypes.addressof(buffer)))
    counter.bind((device, ETH_P_ALL))
    counter.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
    return counter


def switch_offloads_off(device: str) -> None:
    """A veth leaves checksums and the cutting into segments to the card behind it; a relay of frames is none."""
    import fcntl
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        siocethtool = 0x8946
        for switch in (0x17, 0x1F, 0x24):  # ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO
            value = ctypes.create_string_buffer(struct.pack("II", switch, 0))
            fcntl.ioctl(control, siocethtool, struct.pack("16sQ16x", device.encode(), ctypes.addressof(value)))


def die_with_parent() -> None:
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_loopback_net(ports: list[int]) -> str:
    """The first 127.0.N of which no port that we need is taken, so that two runs at once do not meet."""
    for number in range(77, 250):
        try:
            for last in (1, 2):
                for port in ports:
                    with socket.socket() as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind((f"127.0.{number}.{last}", port))
            return f"127.0.{number}"
        except OSError:
            continue
    raise HostsError("no loopback address from 127.0.77.1 to 127.0.249.1 has the ports of the deploy files free; "
                     "something listens on all addresses at " + ", ".join(map(str, sorted(ports)[:8])) + " …")
