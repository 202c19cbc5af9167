"""House rules as a test: who may include whom, what common/ must not touch, how long things may be, what stands where.

usage: tidy.py            judges the tree it stands in; one finding a line, exit code 1 if there is any
       tidy.py --self-test  plants one violation of every rule and sees that each is found
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TOP_LEVEL = {"meson.build", "meson_options.txt", "sidecar", "common", "proto", "deploy", "tests", "tools", "README.md"}
FILE_LINES_MAX = 400
LONG_BECAUSE = "tidy: long because "

# Folder → folders of ours whose headers it may include. Driver and main marry both worlds.
BASE = {"common/base"}
PROTOCOL = BASE | {"common/zmtp", "common/wire", "common/contract"}
POLICY_ROOMS = ("cache", "discovery", "routing", "gpu", "telemetry")
MAY_INCLUDE = {
    "common/base": BASE,
    "common/zmtp": BASE | {"common/zmtp"},
    "common/wire": BASE | {"common/wire", "proto"},
    "common/contract": BASE | {"common/contract"},
    "sidecar/io": BASE | {"sidecar/io"},
    **{f"common/{room}": BASE | {"common/contract", "common/wire", f"common/{room}"} for room in POLICY_ROOMS},
    **{f"sidecar/{room}": PROTOCOL | {f"common/{policy}" for policy in POLICY_ROOMS} | {f"sidecar/{room}"}
       for room in ("proxy", "hub", "arbiter")},
}
for room in ("proxy", "arbiter"):  # packets of leases
    MAY_INCLUDE[f"sidecar/{room}"] |= {"proto"}
# What stands beside an agent knows the packets of leases and what a descriptor is, not how anybody decides.
MAY_INCLUDE["tools/sdk"] = BASE | {"proto", "sidecar/io", "tools/sdk"}
COMPOSITION = re.compile(r"sidecar/(proxy|hub|arbiter)/(driver\w*\.(h|cc)|main\.cc)$")

PURE = "common/ and the engines open nothing and read no clock"
BANNED_HEADERS = {
    r"thread|mutex|condition_variable|future": "one loop thread owns all state",
    r"fstream|iostream|filesystem|sys/.*|unistd\.h|fcntl\.h|uv\.h|zmq\.h(pp)?": "I/O belongs to sidecar/io",
    r"random|ctime|time\.h": "take `Instant now` or a mesh::Prng as an argument",
}
BANNED_CALLS = {
    r"\bgetenv\s*\(": "main reads the environment and hands it in",
    r"\b(clock_gettime|gettimeofday|time)\s*\(\s*(NULL|nullptr|CLOCK|&|0)": "take `Instant now` as an argument",
    r"_clock::now\s*\(": "take `Instant now` as an argument",
    r"\b(s?rand|getrandom)\s*\(|random_device": "take a mesh::Prng as an argument",
    r"\b(std::)?printf\s*\(": "return text; main or the log writes it",
}
BANNED_NAMES = re.compile(r"\b(?:class|struct)\s+(\w*(?:Manager|Helper|Util|Utils|Impl))\b")
MACHINE_PATHS = re.compile(r"/(root|home)/\w")


def folder_of(path: str) -> str:
    return "/".join(path.split("/")[:2])


def judge_includes(path: str, text: str) -> Iterator[str]:
    folder = folder_of(path)
    allowed = MAY_INCLUDE.get(folder)
    if allowed is None or COMPOSITION.match(path):
        return
    for included in re.findall(r'^#include "([^"]+)"', text, re.MULTILINE):
        top = included.split("/")[0]
        target = "proto" if top == "proto" or included.endswith(".pb.h") else folder_of(included)
        if target not in allowed:
            yield f"{path}: {folder} may not include {included}"


def judge_purity(path: str, text: str) -> Iterator[str]:
    engine = re.match(r"sidecar/(proxy|hub|arbiter)/", path) and not path.endswith("main.cc")
    if not path.startswith("common/") and not engine:
        return
    for header in re.findall(r"^#include <([^>]+)>", text, re.MULTILINE):
        for banned, instead in BANNED_HEADERS.items():
            if re.fullmatch(banned, header):
                yield f"{path}: <{header}> is banned here ({PURE}): {instead}"
    for number, line in enumerate(text.splitlines(), 1):
        code = line.split("//")[0]
        for banned, instead in BANNED_CALLS.items():
            if re.search(banned, code):
                yield f"{path}:{number}: {code.strip()[:50]} ({PURE}): {instead}"


def judge_shape(path: str, text: str) -> Iterator[str]:
    lines = text.splitlines()
    if len(lines) > FILE_LINES_MAX and LONG_BECAUSE not in text:
        yield f"{path}: {len(lines)} lines, more than {FILE_LINES_MAX}: split it, or say `{LONG_BECAUSE}…`"
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield f"{path}:{number}: white space at the end"
        if match := BANNED_NAMES.search(line):
            yield f"{path}:{number}: {match.group(1)} says nothing: name what it does"
        if MACHINE_PATHS.search(line):
            yield f"{path}:{number}: a path of one machine"


def judge_tree(files: dict[str, str]) -> list[str]:
    """All findings on a tree given as path → text."""
    findings = []
    built = "".join(text for path, text in files.items() if path.endswith("meson.build"))
    for path, text in files.items():
        top = path.split("/")[0]
        if top not in TOP_LEVEL and not top.startswith("."):
            findings.append(f"{path}: {top} is none of the fixed top-level names")
        if path.endswith((".cc", ".h")):
            findings += [*judge_includes(path, text), *judge_purity(path, text), *judge_shape(path, text)]
        elif path.endswith((".py", ".sh")) and path != "tools/tidy.py":
            findings += judge_shape(path, text)
        if path.endswith(".cc") and path.startswith(("common/", "sidecar/")) and f"'{Path(path).name}'" not in built:
            findings.append(f"{path}: no meson.build names it")
    return findings


def read_tree() -> dict[str, str]:
    root = Path(__file__).resolve().parents[1]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, text=True, capture_output=True, check=True).stdout.split("\n")
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, or not a checkout
        listed = [str(path.relative_to(root)) for path in root.rglob("*")
                  if not path.relative_to(root).parts[0].startswith((".git", ".build"))]
    paths = [path for path in listed if path and (root / path).is_file()]
    return {path: (root / path).read_text(errors="replace") for path in paths}


def self_test() -> int:
    planted = {
        "common/zmtp/a.h": '#include "common/wire/batch.h"\n',
        "sidecar/io/b.h": '#include "common/zmtp/frame.h"\n',
        "sidecar/proxy/c.h": '#include "sidecar/io/loop.h"\n',
        "common/base/d.h": "#include <thread>\n",
        "common/base/e.h": "auto now = std::chrono::steady_clock::now();\n",
        "sidecar/proxy/f.h": 'auto home = getenv("HOME");\n',
        "common/base/g.h": "class PoolManager {};\n",
        "common/base/h.h": "int x; \n",
        "common/base/i.h": "int x;\n" * 500,
        "sources/j.txt": "",
        "common/base/k.cc": "",
        "tools/sdk/m.h": '#include "sidecar/arbiter/engine.h"\n',
        "tools/l.py": "open('/home/somebody')\n",
    }
    innocent = {
        "common/wire/m.h": '#include "common/base/slice.h"\n',
        "sidecar/proxy/driver.cc": '#include "sidecar/io/loop.h"\n',
        "sidecar/proxy/meson.build": "'driver.cc'\n",
        "common/base/n.h": "// getenv( in a comment\n",
    }
    failures = [f"not found: {path}" for path, text in planted.items() if not judge_tree({path: text})]
    failures += [f"wrongly found: {finding}" for finding in judge_tree(innocent)]
    print("\n".join(failures) or f"all {len(planted)} planted violations were found")
    return 1 if failures else 0


def main() -> int:
    if "--self-test" in sys.argv:
        return self_test()
    findings = judge_tree(read_tree())
    print("\n".join(findings) or "tidy")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
