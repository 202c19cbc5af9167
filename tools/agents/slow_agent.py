#!/usr/bin/env python3
"""Slow agent: handles one request, then sleeps 0.1 s before it looks for the next one.

No example of how to write an agent, but of what there is: a common base class does exactly this, and whoever asks
such an agent twice waits for the nap.

  {"action": "get_status", "number": 7} -> {"status": "success", "number": 7, "handled": 12}
  {"action": "health_check"}            -> {"status": "degraded", "reason": "redis is missing"}
"""
import argparse
import json
import os
import time

import zmq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5703)
    parser.add_argument("--nap", type=float, default=0.1, metavar="SECONDS",
                        help="sleep after each request (default 0.1)")
    arguments = parser.parse_args()

    socket = zmq.Context.instance().socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(f"tcp://{os.environ.get('BIND_ADDRESS', '*')}:{arguments.port}")
    print(f"slow agent on port {arguments.port}", flush=True)
    handled = 0
    while True:
        body = socket.recv()
        handled += 1
        try:
            request = json.loads(body)
            action = request.get("action")
            if action == "get_status":
                reply = {"status": "success", "number": request.get("number"), "handled": handled}
            elif action == "health_check":
                reply = {"status": "degraded", "reason": "redis is missing"}
            else:
                reply = {"status": "error", "error": f"Unknown action: {action}"}
        except (ValueError, AttributeError) as error:
            reply = {"status": "error", "error": f"{type(error).__name__}: {error}"}
        socket.send(json.dumps(reply).encode())
        time.sleep(arguments.nap)


if __name__ == "__main__":
    main()
