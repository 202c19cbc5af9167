#!/usr/bin/env python3
"""Speech agent: says a text with espeak-ng and answers with a WAV file in base64.

  {"action": "speak", "text": "Oh dear!", "voice": "en", "speed": 175}
      -> {"status": "success", "audio": "UklGR…", "format": "wav", "sample_rate": 22050, "duration_s": 0.9}
  {"action": "health_check"} -> {"status": "ok", …}
"""
import argparse
import base64
import json
import os
import struct
import subprocess

import zmq

TEXT_CHARACTERS_MAX = 2000
SECONDS_MAX = 30


def speak(request: dict) -> dict:
    text = request["text"]
    if not text.strip() or len(text) > TEXT_CHARACTERS_MAX:
        return {"status": "error", "error": f"text must have 1 to {TEXT_CHARACTERS_MAX} characters"}
    voice, speed = str(request.get("voice", "en")), int(request.get("speed", 175))
    command = ["espeak-ng", "--stdin", "--stdout", "-v", voice, "-s", str(speed)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SECONDS_MAX, check=False)
    if done.returncode != 0:
        return {"status": "error", "error": done.stderr.decode(errors="replace").strip() or "espeak-ng failed"}
    wav = with_true_sizes(done.stdout)
    sample_rate = struct.unpack_from("<I", wav, 24)[0]
    return {"status": "success", "audio": base64.b64encode(wav).decode(), "format": "wav", "sample_rate": sample_rate,
            "duration_s": round((len(wav) - 44) / 2 / sample_rate, 3)}


def with_true_sizes(wav: bytes) -> bytes:
    """espeak-ng cannot seek back on a pipe, so its header claims 2 GiB: players want the real sizes."""
    fixed = bytearray(wav)
    struct.pack_into("<I", fixed, 4, len(wav) - 8)
    struct.pack_into("<I", fixed, 40, len(wav) - 44)
    return bytes(fixed)


def handle(request: dict) -> dict:
    action = request.get("action")
    if action == "speak":
        return speak(request)
    if action == "health_check":
        return {"status": "ok", "agent": "speech"}
    return {"status": "error", "error": f"Unknown action: {action}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5701)
    arguments = parser.parse_args()

    socket = zmq.Context.instance().socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(f"tcp://{os.environ.get('BIND_ADDRESS', '*')}:{arguments.port}")
    print(f"speech agent on port {arguments.port}", flush=True)
    while True:
        body = socket.recv()
        request: dict = {}
        try:
            request = json.loads(body)
            reply = handle(request)
        except FileNotFoundError:
            reply = {"status": "error", "error": "espeak-ng is not installed (apt-get install espeak-ng)"}
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, subprocess.TimeoutExpired) as error:
            reply = {"status": "error", "error": f"{type(error).__name__}: {error}"}
        if isinstance(request, dict) and "request_id" in request:
            reply["request_id"] = request["request_id"]
        socket.send(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
