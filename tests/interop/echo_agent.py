"""An agent that gives back what it got, as a process of its own, so that a test can kill it.

usage: echo_agent.py ENDPOINT rep|router|dealer      binds ENDPOINT, says "bound" on stdout, serves until killed

A body that starts with "sleep" is held for a second first.
"""

import sys
import time

import zmq

server = zmq.Context.instance().socket(getattr(zmq, sys.argv[2].upper()))
server.setsockopt(zmq.LINGER, 0)
server.bind(sys.argv[1])
print("bound", flush=True)
while True:
    frames = server.recv_multipart()
    if frames[-1].startswith(b"sleep"):
        time.sleep(1)
    server.send_multipart(frames)
