"""The course of a run: set up the hosts, start everything, let the traffic flow, report, take everything down."""
from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from demo import cast, duplicates, keep, options, report, scale
from demo.hosts import Hosts, HostsError
from demo.live import LiveTable
from demo.processes import Process, Processes, RunError, wait_for_answers, wait_for_log
from demo.traffic import HABIT, MESH, Traffic

DEPLOY_FOLDER = options.REPOSITORY / "deploy"


class Stopped(BaseException):
    """SIGINT or SIGTERM; travels up through everything, so that every cleanup runs."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number


def stop(signal_number: int, _frame: object) -> None:
    for later in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(later, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the cleanup of the first
    raise Stopped(signal_number)


def demo(chosen: Namespace, folder: Path, paint: report.Paint) -> int:
    configs = [cast.load_config(DEPLOY_FOLDER / name) for name in ("mainpc.json", "pc2.json")]
    kept = duplicates.kept_methods(configs)
    if chosen.no_cache:
        configs = [duplicates.without_cache(config) for config in configs]
    hosts = cast.open_hosts(configs, chosen.lan, chosen.loopback)
    processes = Processes(hosts, folder)
    try:
        print(paint.dim(f"{hosts.description}: {' and '.join(hosts.names)}; logs in {folder}"), flush=True)
        files = {config["host"]: cast.place(config, configs, hosts, folder) for config in configs}
        roles = start_everything(chosen, configs, files, hosts, processes)
        calls = cast.calls_of(configs)
        link_before = hosts.count()
        for config in configs:
            ports = [f"{hosts.local_address(config['host'])}:{call.dropin_port}"
                     for call in calls if call.caller == config["host"]]
            wait_for_answers(processes, config["host"], ports)
        code = 0
        if chosen.seconds:
            traffic = Traffic(hosts, processes, calls, cast.sidecar_ports(configs), folder)
            # The sidecars' links were opened by the first question, just now, and are part of what the mesh opens.
            link_now = hosts.count()
            if link_now.connections is not None:
                traffic.costs[MESH].add_link(link_now.connections - link_before.connections, 0)

            def count_duplicates() -> dict[str, duplicates.Duplicates]:
                answered = duplicates.answered_without_agent(folder, configs)
                return {path: duplicates.of_path(traffic, path, kept, answered if path == MESH else 0) for path in (MESH, HABIT)}

            result = play(chosen, calls, traffic, roles, count_duplicates, paint)
            if not chosen.no_gpu and not chosen.keep:
                result["gpu"] = gpu_chapter(chosen, folder, paint)
                result["ok"] = result["ok"] and (result["gpu"] is None or result["gpu"]["ok"])
            write_json(chosen, result)
            code = 0 if result["ok"] else 1
            if chosen.trace:
                duplicates.write_trace(traffic, MESH, kept, chosen.trace)
        if chosen.keep:
            keep.explain(calls, hosts, folder, paint)
            while True:
                processes.must_live()
                time.sleep(0.5)
        return code
    finally:
        complaints = processes.stop()
        hosts.close()
        for complaint in complaints:
            print(paint.bad(complaint), file=sys.stderr)


def start_everything(chosen: Namespace, configs: list[cast.Config], files: dict[str, Path], hosts: Hosts,
                     processes: Processes) -> dict[str, list[Process]]:
    """Agents and sidecars, in no order: either may come first."""
    roles: dict[str, list[Process]] = {"agents": [], "sidecars": []}
    for config in configs:
        host = config["host"]
        for name in config["sidecars"]:
            roles["sidecars"].append(processes.start_sidecar(chosen.sidecar, host, name, files[host]))
        for name, agent in config["agents"].items():
            roles["agents"].append(processes.start(name, host, cast.agent_command(name, agent["endpoint"])))
    for sidecar in roles["sidecars"]:
        wait_for_log(sidecar, "event=ready")
    for config in configs:
        agents = [f"{hosts.local_address(config['host'])}:{cast.split_endpoint(agent['endpoint'])[1]}"
                  for agent in config["agents"].values()]
        wait_for_answers(processes, config["host"], agents)
    return roles


def play(chosen: Namespace, calls: list[cast.Call], traffic: Traffic, roles: dict[str, list[Process]],
         count_duplicates: Callable[[], dict[str, duplicates.Duplicates]], paint: report.Paint) -> dict:
    table = LiveTable(calls, traffic, chosen.seconds, paint)
    try:
        traffic.run(chosen.seconds, roles, table.show)
    finally:
        table.clear()
    counted = count_duplicates()
    result = report.summary(calls, traffic, counted)
    lines = ["", *report.service_lines(calls, traffic, paint), "", *report.cost_lines(traffic, paint),
             *report.duplicate_lines(counted[MESH], counted[HABIT], paint), "",
             *report.complaint_lines(traffic, paint)]
    lines += [paint.bad(f"not one right answer: {silent}") for silent in report.unanswered(calls, traffic)]
    verdict = (f"{result['requests']} requests: {result['lost']} lost, {result['wrong']} wrong, "
               f"{result['errors']} typed errors")
    print("\n".join([*lines, paint.bold(verdict) if result["ok"] else paint.bad(verdict)]), flush=True)
    if traffic.costs[HABIT].wire_bytes is None:
        print(paint.dim("Bytes on the wire are counted only as root (namespaces) or with --lan (a relay of our own)."))
    return result


def gpu_chapter(chosen: Namespace, folder: Path, paint: report.Paint) -> dict | None:
    """Nothing where its programs are not there: with --sidecar nobody built them."""
    if missing := options.missing_for_gpu(chosen):
        print(paint.dim(f"\nNo chapter on a GPU's memory: there is no {missing}"))
        return None
    from demo import gpu  # needs numpy
    return gpu.play(chosen, folder, paint).as_json()


def only_gpu(chosen: Namespace, folder: Path, paint: report.Paint) -> int:
    result = gpu_chapter(chosen, folder, paint)
    write_json(chosen, {"ok": result["ok"], "gpu": result})
    return 0 if result["ok"] else 1


def write_json(chosen: Namespace, result: dict) -> None:
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    chosen = options.parse(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    paint = report.Paint()
    folder = Path(tempfile.mkdtemp(prefix="mesh-run-"))
    failed = False
    try:
        if chosen.gpu:
            return only_gpu(chosen, folder, paint)
        if chosen.scale:
            return scale.run(chosen, folder, paint)
        return demo(chosen, folder, paint)
    except Stopped as stopped:
        print("\nStopped; nothing is left running." if not chosen.keep else "\nTaken down.", flush=True)
        return 0 if chosen.keep and stopped.exit_code == 130 else stopped.exit_code
    except RunError as error:
        failed = True
        print(paint.bad(f"tools/run: {error}"), file=sys.stderr)
        return 1
    except (HostsError, OSError) as error:
        failed = True
        print(paint.bad(f"tools/run: {error}"), file=sys.stderr)
        return 70
    finally:
        if chosen.keep_logs or failed:
            print(f"Logs, configs and records are in {folder}", file=sys.stderr)
        else:
            with suppress(OSError):
                shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
