"""What --keep prints: how to talk to what is running, from one's own Python."""
from __future__ import annotations

import json
from pathlib import Path

from demo.cast import Call
from demo.hosts import Hosts
from demo.report import Paint

QUESTIONS = {
    "memory": '{"action": "search", "query": "rabbit"}',
    "translation": '{"action": "translate", "text": "The house is red."}',
    "speech": '{"action": "speak", "text": "Oh dear! I shall be late!"}',
    "vision": '{"action": "health_check"}',
}


def explain(calls: list[Call], hosts: Hosts, folder: Path, paint: Paint) -> None:
    lines = ["", paint.bold("It stays up until Ctrl-C. Three lines of Python ask an agent of the other host:")]
    for host in hosts.names:
        call = next(call for call in calls if call.caller == host)
        question = QUESTIONS.get(call.service, QUESTIONS["vision"])
        shell = " ".join(hosts.command(host, ["/usr/bin/python3"]))
        lines += ["", f"on {paint.bold(host)} ({call.service} lives on {call.callee}):  {paint.dim(shell)}",
                  "    import zmq; ask = zmq.Context().socket(zmq.REQ)",
                  f"    ask.connect('tcp://{hosts.local_address(host)}:{call.dropin_port}')",
                  f"    ask.send_string('{question}'); print(ask.recv_string())"]
    first = calls[0]
    header = json.dumps({"service": first.service})
    question = QUESTIONS.get(first.service, QUESTIONS["vision"])
    lines += ["", "or by the name of a service, at the mesh socket of a sidecar (any shell of this user will do):",
              "    import zmq; ask = zmq.Context().socket(zmq.REQ)",
              f"    ask.connect('ipc://{folder / first.caller / 'main.sock'}')",
              f"    ask.send_multipart([b'{header}', b'{question}']); print(ask.recv_multipart())",
              "", "drop-in ports:"]
    lines += [f"    {call.caller:<8} tcp://{hosts.local_address(call.caller)}:{call.dropin_port:<6} {call.service} "
              f"on {call.callee}" for call in calls]
    print("\n".join(lines), flush=True)
