#!/usr/bin/env python3
"""Memory agent: keeps texts and finds them again by their words (SQLite FTS5).

Knows the actions add_memory {text, tags}, search {query, limit}, count and health_check:

  {"action": "add_memory", "text": "The Rabbit is late"}  -> {"status": "success", "memory_id": 1}
  {"action": "search", "query": "rabbit"}                 -> {"status": "success", "results": [{"memory_id": 1, ...}]}
"""
import argparse
import json
import os
import re
import sqlite3

import zmq


class MemoryAgent:
    def __init__(self, database: str) -> None:
        self.db = sqlite3.connect(database, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS memories"
                        " USING fts5(text, tags, tokenize = 'porter unicode61')")

    def handle(self, request: dict) -> dict:
        action = request.get("action")
        if action == "add_memory":
            text = request["text"]
            # The same text again is the same memory: clients that try twice must not fill the store.
            for (row_id,) in self.db.execute("SELECT rowid FROM memories WHERE memories MATCH ? AND text = ?",
                                             (match_expression(text), text)):
                return {"status": "success", "memory_id": row_id, "known": True}
            cursor = self.db.execute("INSERT INTO memories (text, tags) VALUES (?, ?)",
                                     (text, " ".join(request.get("tags", []))))
            return {"status": "success", "memory_id": cursor.lastrowid, "known": False}
        if action == "search":
            rows = self.db.execute(
                "SELECT rowid, text, bm25(memories), snippet(memories, 0, '[', ']', '…', 12) FROM memories"
                " WHERE memories MATCH ? ORDER BY bm25(memories) LIMIT ?",
                (match_expression(request["query"]), int(request.get("limit", 5)))).fetchall()
            return {"status": "success", "query": request["query"],
                    "results": [{"memory_id": r[0], "text": r[1], "score": -r[2], "snippet": r[3]} for r in rows]}
        if action == "count":
            return {"status": "success", "count": self.db.execute("SELECT count(*) FROM memories").fetchone()[0]}
        if action == "health_check":
            return {"status": "ok", "agent": "memory"}
        return {"status": "error", "error": f"Unknown action: {action}"}


def match_expression(text: str) -> str:
    """FTS5 has an expression language; a person's words are quoted so that none of them is taken for an operator."""
    return " ".join(f'"{word}"' for word in re.findall(r"\w+", text)[:64])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5801)
    parser.add_argument("--database", default=":memory:", help="SQLite file (default: in memory, gone at exit)")
    arguments = parser.parse_args()

    agent = MemoryAgent(arguments.database)
    socket = zmq.Context.instance().socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(f"tcp://{os.environ.get('BIND_ADDRESS', '*')}:{arguments.port}")
    print(f"memory agent on port {arguments.port}", flush=True)
    while True:
        body = socket.recv()
        request: dict = {}
        try:
            request = json.loads(body)
            reply = agent.handle(request)
        except (ValueError, KeyError, TypeError, AttributeError, sqlite3.Error) as error:
            reply = {"status": "error", "error": f"{type(error).__name__}: {error}"}
        if isinstance(request, dict) and "request_id" in request:
            reply["request_id"] = request["request_id"]
        socket.send(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
