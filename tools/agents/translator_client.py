#!/usr/bin/env python3
"""Translator: asks the translation agent for one sentence after the other, then for two at a time.

  translator_client.py --host 10.77.0.2 --port 5802      straight to the agent on the other computer
  translator_client.py --port 6712                       by the mesh: a drop-in port on this computer
"""
import itertools
import re

import req_client

# What apertium makes of these words, wherever they stand; a translation of another sentence lacks some of them.
LANDMARKS = {"Alice": "Alice", "Rabbit": "Conejo", "nation": "naci", "years": "años", "war": "guerra", "book": "libro",
             "sister": "hermana", "field": "campo", "freedom": "libertad", "hot": "calient"}


def sentences() -> list[str]:
    texts = req_client.paragraphs("gettysburg.txt") + req_client.paragraphs("alice.txt")
    return [sentence for text in texts for sentence in re.findall(r"[^.;:?!]+[.;:?!]", text) if len(sentence) > 20]


def is_translation_of(sentence: str, known: dict[str, str]) -> req_client.Check:
    def check(answer: dict) -> str | None:
        got = answer.get("translated_text", "")
        for english, spanish in LANDMARKS.items():
            if re.search(rf"\b{english}\b", sentence) and spanish not in got:
                return f"{english!r} must become {spanish!r} in {got!r}"
        if known.setdefault(sentence, got) != got:
            return f"the same sentence became {got!r} and before {known[sentence]!r}"
        if [text for other, text in known.items() if other != sentence].count(got):
            return f"{got!r} is the translation of another sentence"
        return None
    return check


def requests() -> req_client.Requests:
    known: dict[str, str] = {}
    single = list(dict.fromkeys(sentence.strip() for sentence in sentences()))
    for sentence in itertools.cycle(single + [f"{one} {other}" for one in single for other in single]):
        yield ({"action": "translate", "text": sentence, "source_lang": "en", "target_lang": "es"},
               is_translation_of(sentence, known))


if __name__ == "__main__":
    req_client.main(__doc__, "translation", req_client.with_repeats(requests()), default_per_second=20)
