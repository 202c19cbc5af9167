#!/usr/bin/env python3
"""Translation agent: English to Spanish with apertium.

  {"action": "translate", "text": "The house is red.", "source_lang": "en", "target_lang": "es"}
      -> {"status": "success", "translated_text": "La casa es roja.", …}
  {"action": "health_check"} -> {"status": "ok", …}

The apertium command loads all its dictionaries for every text. This agent starts the stages of apertium's pipeline once
and keeps them: a text goes in with a NUL behind it, and each stage flushes at the NUL.
"""
import argparse
import json
import os
import re
import select
import subprocess
import sys
import time

import zmq

MODE_FILE = "/usr/share/apertium/modes/eng-spa.mode"
# What apertium's own deformatter puts behind a text, so that the last word of it ends a sentence.
END_OF_TEXT = b"[][\n]"
SECONDS_MAX = 10


class Pipeline:
    """The stages named in an apertium mode file as one long-lived shell pipeline."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        with open(MODE_FILE, encoding="utf-8") as file:
            stages = [stage.split() for stage in file.read().strip().split("|")]
        # -z: flush at NUL. $1 and $2 stand for options of the apertium command; -n leaves unknown words unmarked.
        options = {"$1": "-n", "$2": ""}
        commands = [" ".join([stage[0], "-z"] + [options.get(word, word) for word in stage[1:]]) for stage in stages]
        self.process = subprocess.Popen(["bash", "-c", " | ".join(commands)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self.process

    def stop(self) -> None:
        if self.process:
            self.process.stdin.close()
            self.process.kill()
            self.process.wait()
            self.process = None

    def translate(self, text: str) -> str:
        process = self.process or self.start()
        try:
            process.stdin.write(escape(text).encode() + END_OF_TEXT + b"\0")
            process.stdin.flush()
            out = self.read_to_nul(process)
        except OSError:
            # A pipeline that lost its place would answer the next text with this one's translation.
            self.stop()
            raise
        return unescape(out.removesuffix(END_OF_TEXT).decode(errors="replace"))

    @staticmethod
    def read_to_nul(process: subprocess.Popen[bytes]) -> bytes:
        out, deadline = b"", time.monotonic() + SECONDS_MAX
        while not out.endswith(b"\0"):
            readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(process.stdout.fileno(), 65536) if readable else b""
            if not part:
                raise OSError("apertium gave no answer")
            out += part
        return out[:-1]


def escape(text: str) -> str:
    return re.sub(r"([\[\]{}^$/\\@<>])", r"\\\1", text.replace("\0", " "))


def unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def handle(request: dict, pipeline: Pipeline) -> dict:
    action = request.get("action")
    if action == "translate":
        languages = (request.get("source_lang", "en"), request.get("target_lang", "es"))
        if languages != ("en", "es"):
            return {"status": "error", "error": f"Cannot translate {languages[0]} to {languages[1]}, only en to es"}
        return {"status": "success", "translated_text": pipeline.translate(request["text"]),
                "source_lang": "en", "target_lang": "es", "engine": "apertium"}
    if action == "health_check":
        return {"status": "ok", "agent": "translation"}
    return {"status": "error", "error": f"Unknown action: {action}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5802)
    arguments = parser.parse_args()

    pipeline = Pipeline()
    try:
        pipeline.translate("Good morning.")  # has the dictionaries loaded before anybody waits for them
    except OSError as error:
        print(f"translation agent: {error}", file=sys.stderr, flush=True)
    socket = zmq.Context.instance().socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(f"tcp://{os.environ.get('BIND_ADDRESS', '*')}:{arguments.port}")
    print(f"translation agent on port {arguments.port}", flush=True)
    while True:
        body = socket.recv()
        try:
            reply = handle(json.loads(body), pipeline)
        except FileNotFoundError:
            reply = {"status": "error", "error": "apertium is not installed (apt-get install apertium-eng-spa)"}
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            reply = {"status": "error", "error": f"{type(error).__name__}: {error}"}
        socket.send(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
