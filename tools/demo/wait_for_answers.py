"""wait_for_answers.py SECONDS HOST:PORT…: asks each for its health until all answered; prints those that did not."""
import json
import sys
import time

import zmq


def main() -> int:
    deadline = time.monotonic() + float(sys.argv[1])
    silent = {target: "no reply" for target in sys.argv[2:]}
    while silent and time.monotonic() < deadline:
        for target in list(silent):
            problem = ask(target)
            if problem:
                silent[target] = problem
            else:
                del silent[target]
        time.sleep(0.05 if silent else 0)
    for target, problem in silent.items():
        print(f"    {target}: {problem}")
    return 1 if silent else 0


def ask(target: str) -> str:
    """Empty when something behind the address answered."""
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, 5000)
    try:
        socket.connect(f"tcp://{target}")
        socket.send(b'{"action": "health_check"}')
        reply = json.loads(socket.recv())
    except zmq.Again:
        return "no reply"
    except ValueError as error:
        return f"a reply that is no JSON: {error}"
    finally:
        socket.close()
    if isinstance(reply, dict) and "mesh" in reply:
        return f"{reply.get('code')}: {reply.get('message')}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
