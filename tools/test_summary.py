"""Counts single test cases in a meson test log, and prints the one closing line."""

import json
import re
import sys
from pathlib import Path

DOCTEST = re.compile(r"\[doctest\] test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped")
UNITTEST = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)
UNITTEST_BAD = re.compile(r"(failures|errors|skipped)=(\d+)")


def count(entry: dict) -> tuple[int, int, int]:
    """(passed, failed, skipped) of one meson test: its cases where it tells them, else itself."""
    output = entry.get("stdout", "") + entry.get("stderr", "")
    failed_as_a_whole = entry["result"] in ("FAIL", "ERROR", "TIMEOUT", "UNEXPECTEDPASS")
    passed = failed = skipped = 0
    if match := DOCTEST.search(output):
        passed, failed, skipped = (int(group) for group in match.groups())
        skipped = 0  # doctest counts cases that a filter left out
    elif match := UNITTEST.search(output):
        bad = {word: int(number) for word, number in UNITTEST_BAD.findall(output)}
        failed = bad.get("failures", 0) + bad.get("errors", 0)
        skipped = bad.get("skipped", 0)
        passed = int(match.group(1)) - failed - skipped
    elif entry["result"] == "SKIP":
        skipped = 1
    elif not failed_as_a_whole:
        passed = 1
    if failed_as_a_whole and failed == 0:
        failed = 1
    return passed, failed, skipped


def main() -> int:
    path = Path(sys.argv[1])
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    totals = [sum(column) for column in zip(*(count(entry) for entry in entries))] or [0, 0, 0]
    passed, failed, skipped = totals
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
