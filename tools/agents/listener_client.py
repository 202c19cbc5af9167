#!/usr/bin/env python3
"""Listener: has the speech agent say phrases of a text and checks the sound that comes back.

  listener_client.py --host 10.77.0.1 --port 5701      straight to the agent on the other computer
  listener_client.py --port 6811                       by the mesh: a drop-in port on this computer
"""
import base64
import hashlib
import itertools
import re
import struct

import req_client


def is_sound_of(phrase: str, known: dict[str, str]) -> req_client.Check:
    def check(answer: dict) -> str | None:
        wav = base64.b64decode(answer.get("audio", ""))
        if len(wav) < 44 or wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
            return "the audio is no WAV file"
        if struct.unpack_from("<I", wav, 40)[0] != len(wav) - 44:
            return "the WAV file is cut off"
        if max(wav[44:], default=0) == 0:
            return "the WAV file is silent"
        digest = hashlib.sha256(wav).hexdigest()
        if known.setdefault(phrase, digest) != digest:
            return f"{phrase!r} sounded otherwise before"
        if [sound for other, sound in known.items() if other != phrase].count(digest):
            return f"{phrase!r} got the sound of another phrase"
        return None
    return check


def requests() -> req_client.Requests:
    text = " ".join(req_client.paragraphs("alice.txt"))
    phrases = list(dict.fromkeys(phrase.strip() for phrase in re.findall(r"[^.,;:?!()\"]+", text) if len(phrase) > 15))
    known: dict[str, str] = {}
    for phrase in itertools.cycle(phrases):
        yield {"action": "speak", "text": phrase, "voice": "en"}, is_sound_of(phrase, known)


if __name__ == "__main__":
    req_client.main(__doc__, "speech", req_client.with_repeats(requests()), default_per_second=4)
