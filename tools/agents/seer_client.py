#!/usr/bin/env python3
"""Seer: sends pictures of printed lines to the vision agent and checks that it reads what they say.

  seer_client.py --host 10.77.0.1 --port 5702      straight to the agent on the other computer
  seer_client.py --port 6812                       by the mesh: a drop-in port on this computer
"""
import base64
import itertools
from pathlib import Path

import req_client

IMAGE_FOLDER = Path(__file__).parent / "images"
PRINTED = {
    "nation.png": "Four score and seven years ago our fathers brought forth on this continent, a new nation",
    "rabbit.png": "suddenly a White Rabbit with pink eyes ran close by her",
    "earth.png": "government of the people shall not perish from the earth",
}


def says(line: str) -> req_client.Check:
    def check(answer: dict) -> str | None:
        read = " ".join(answer.get("text", "").split())
        return None if read == line else f"the picture says {line!r}, the agent read {read!r}"
    return check


def requests() -> req_client.Requests:
    images = {name: base64.b64encode((IMAGE_FOLDER / name).read_bytes()).decode() for name in PRINTED}
    for name, line in itertools.cycle(PRINTED.items()):
        yield {"action": "read_text", "image": images[name], "language": "eng"}, says(line)


if __name__ == "__main__":
    req_client.main(__doc__, "vision", req_client.with_repeats(requests()), default_per_second=1)
