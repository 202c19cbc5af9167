#!/usr/bin/env python3
"""Echo agents: any number of trivial REP agents in one process, each on a port of its own, giving back what they get.

  echo_agents.py --ports 5901-5954
"""
import argparse
import json
import os

import zmq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", required=True, metavar="FIRST-LAST")
    arguments = parser.parse_args()
    first, last = (int(port) for port in arguments.ports.split("-"))

    context = zmq.Context.instance()
    context.set(zmq.MAX_SOCKETS, last - first + 64)
    poller = zmq.Poller()
    for port in range(first, last + 1):
        socket = context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(f"tcp://{os.environ.get('BIND_ADDRESS', '*')}:{port}")
        poller.register(socket, zmq.POLLIN)
    print(f"{last - first + 1} echo agents on ports {first} to {last}", flush=True)
    while True:
        for socket, _ in poller.poll():
            body = socket.recv()
            try:
                reply = {**json.loads(body), "status": "success"}
            except (ValueError, TypeError) as error:
                reply = {"status": "error", "error": str(error)}
            socket.send(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
