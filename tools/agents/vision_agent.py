#!/usr/bin/env python3
"""Vision agent: reads the text in an image (PNG, JPEG or PGM, in base64) with tesseract.

  {"action": "read_text", "image": "iVBORw0…", "language": "eng"} -> {"status": "success", "text": "…", "words": 12}
  {"action": "health_check"}                                      -> {"status": "ok", …}
"""
import argparse
import base64
import json
import os
import subprocess

import zmq

IMAGE_BYTES_MAX = 16 * 1024 * 1024
SECONDS_MAX = 30
# One thread: tesseract's own threads cost more in waiting for each other than they win on a page this small.
ENVIRONMENT = dict(os.environ, OMP_THREAD_LIMIT="1")


def read_text(request: dict) -> dict:
    image = base64.b64decode(request["image"], validate=True)
    if not image or len(image) > IMAGE_BYTES_MAX:
        return {"status": "error", "error": f"image must have 1 to {IMAGE_BYTES_MAX} bytes"}
    language = str(request.get("language", "eng"))
    if not language.isalnum():
        return {"status": "error", "error": "language must be a tesseract code such as eng"}
    done = subprocess.run(["tesseract", "stdin", "stdout", "-l", language, "--psm", "6"], input=image,
                          capture_output=True, timeout=SECONDS_MAX, check=False, env=ENVIRONMENT)
    if done.returncode != 0:
        return {"status": "error", "error": done.stderr.decode(errors="replace").strip() or "tesseract failed"}
    text = done.stdout.decode(errors="replace").strip()
    return {"status": "success", "text": text, "words": len(text.split())}


def handle(request: dict) -> dict:
    action = request.get("action")
    if action == "read_text":
        return read_text(request)
    if action == "health_check":
        return {"status": "ok", "agent": "vision"}
    return {"status": "error", "error": f"Unknown action: {action}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5702)
    arguments = parser.parse_args()

    socket = zmq.Context.instance().socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(f"tcp://{os.environ.get('BIND_ADDRESS', '*')}:{arguments.port}")
    print(f"vision agent on port {arguments.port}", flush=True)
    while True:
        body = socket.recv()
        try:
            reply = handle(json.loads(body))
        except FileNotFoundError:
            reply = {"status": "error",
                     "error": "tesseract is not installed (apt-get install tesseract-ocr tesseract-ocr-eng)"}
        except (ValueError, KeyError, TypeError, AttributeError, subprocess.TimeoutExpired) as error:
            reply = {"status": "error", "error": f"{type(error).__name__}: {error}"}
        socket.send(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
