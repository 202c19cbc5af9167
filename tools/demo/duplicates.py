"""Requests that were made before, and how many of them the agents were troubled with."""
from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from demo.cast import Config
from demo.traffic import Traffic

Method = tuple[str, str]  # service, action


@dataclass
class Duplicates:
    """Of one path; only methods whose replies the contracts keep."""
    requests: int
    distinct: int  # what who keeps every reply for ever asks the agents
    reached: int | None  # what the agents were asked; None: the sidecars do not tell

    @property
    def share(self) -> float | None:
        return 1 - self.distinct / self.requests if self.requests else None

    @property
    def reached_again(self) -> int | None:
        return None if self.reached is None else max(0, self.reached - self.distinct)

    @property
    def saved_of_optimum(self) -> float | None:
        possible = self.requests - self.distinct
        return (self.requests - self.reached) / possible if possible and self.reached is not None else None

    def as_json(self) -> dict:
        return {"requests": self.requests, "distinct": self.distinct, "reached": self.reached, "share": self.share,
                "reached_again": self.reached_again, "saved_of_optimum": self.saved_of_optimum}


def kept_methods(configs: list[Config]) -> set[Method]:
    return {(service, name) for config in configs for service, contract in config["contracts"].items()
            for name, method in contract.get("methods", {}).items() if "cache" in method}


def without_cache(config: Config) -> Config:
    """The same host, whose contracts keep nothing."""
    copy = json.loads(json.dumps(config))
    for contract in copy["contracts"].values():
        for method in contract.get("methods", {}).values():
            method.pop("cache", None)
            method.pop("invalidates", None)
    return copy


def counted(folder: Path, configs: list[Config], names: list[str]) -> dict[str, int]:
    """Sums of what the sidecars' admin sockets tell."""
    sums = dict.fromkeys(names, 0)
    for config in configs:
        for sidecar in config["sidecars"]:
            with socket.socket(socket.AF_UNIX) as admin:
                admin.settimeout(5)
                admin.connect(str(folder / config["host"] / f"{sidecar}.admin"))
                admin.sendall(b"counters json\n")
                answer = b""
                while part := admin.recv(65536):
                    answer += part
            counters = json.loads(answer)
            for name in names:
                sums[name] += counters[name]
    return sums


def answered_without_agent(folder: Path, configs: list[Config]) -> int | None:
    """None where what stands for a sidecar has no admin socket, or an older one's counters."""
    try:
        return sum(counted(folder, configs, ["cache_hits", "cache_joined"]).values())
    except (OSError, ValueError, KeyError):
        return None


def of_path(traffic: Traffic, path: str, kept: set[Method], answered: int | None) -> Duplicates:
    asked = [one for one in traffic.asked(path) if (one.service, one.action) in kept]
    return Duplicates(len(asked), len({one.key for one in asked}), None if answered is None else len(asked) - answered)


def write_trace(traffic: Traffic, path: str, kept: set[Method], file: Path) -> None:
    """A line per request in the order they were made: key, bytes of the reply, what it took in microseconds."""
    asked = sorted((one for one in traffic.asked(path) if (one.service, one.action) in kept), key=lambda one: one.at)
    file.write_text("".join(f"{one.key} {one.reply_bytes} {round(one.ms * 1000)}\n" for one in asked), encoding="utf-8")
