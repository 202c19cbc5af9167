#!/usr/bin/env python3
"""Reader: has the memory agent remember a text, paragraph by paragraph, then looks its words up again.

  reader_client.py --host 10.77.0.2 --port 5801      straight to the agent on the other computer
  reader_client.py --port 6711                       by the mesh: a drop-in port on this computer
"""
import itertools
import re

import req_client


def remembered(answer: dict) -> str | None:
    return None if isinstance(answer.get("memory_id"), int) else "no memory_id in the reply"


def finds(query: str, text: str) -> req_client.Check:
    def check(answer: dict) -> str | None:
        if answer.get("query") != query:
            return f"asked for {query!r}, got the answer to {answer.get('query')!r}"
        if text not in [result["text"] for result in answer.get("results", [])]:
            return f"{query!r} did not find the paragraph it is from"
        return None
    return check


def requests() -> req_client.Requests:
    texts = req_client.paragraphs("alice.txt") + req_client.paragraphs("gettysburg.txt")
    for text in texts:
        while (yield {"action": "add_memory", "text": text, "tags": ["book"]}, remembered) != "right":
            pass  # searching for what was never stored would prove nothing
    yield from req_client.with_repeats(searches(texts))


def searches(texts: list[str]) -> req_client.Requests:
    # Every third first: next to each other they find the same.
    queries = [(" ".join(words[at:at + 3]), text) for first in range(3) for text in texts
               for words in [re.findall(r"\w+", text)] for at in range(first, len(words) - 2, 3)]
    for query, text in itertools.cycle(queries):
        yield {"action": "search", "query": query, "limit": 10}, finds(query, text)


if __name__ == "__main__":
    req_client.main(__doc__, "memory", requests(), default_per_second=40)
