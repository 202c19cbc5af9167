"""Plants one bug after the other and has the simulation find each: a simulation that finds nothing may be blind.

usage: mutants.py BUILD_DIR [--only NAME] [--seeds N]

Each mutant is a change of a few words in one source file. It is compiled into a program of its own, whose object comes before
the library that has the right one. Exit code 1 if one survives N seeds (2000), or no longer fits the source.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROXY = "sidecar/proxy/"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    right: str
    wrong: str


MUTANTS = [
    Mutant("deadline forgotten on reconnect", PROXY + "outbound.cc",
           "calls_at(event.peer, event.lane)) calls_.set_deadline(id, calls_.find(id)->deadline);",
           "calls_at(event.peer, event.lane)) calls_.set_deadline(id, kNever);"),
    Mutant("retry after send", PROXY + "outbound.cc",
           "outcome.code == Code::kNotSent || outcome.code == Code::kDraining",
           "outcome.code == Code::kNotSent || outcome.code == Code::kDraining || outcome.code == Code::kOutcomeUnknown"),
    Mutant("late reply delivered", PROXY + "inbound.cc",
           "return config_.agents[index].correlate && config_.agents[index].socket != AgentSocket::kRep;", "return index + 1 > 0;"),
    Mutant("credit leak", PROXY + "outbound.cc",
           "    const Call call = calls_.close(id);\n    leave_instance(call);\n", "    const Call call = calls_.close(id);\n"),
    Mutant("memory leak in the books", PROXY + "outbound.cc", "    held_bytes_ -= call.bytes;\n    const Instance& instance", "    const Instance& instance"),
    Mutant("batch replayed at another instance", PROXY + "outbound.cc", "} else if (contains(event.not_sent, id)) {", "} else if (id > 0) {"),
    Mutant("queue bound off", PROXY + "outbound.cc", "if (held_bytes_ + bytes > config_.limits.process_queued_bytes) {", "if (false) {"),
    Mutant("drain loses parked calls", PROXY + "driver.cc",
           "engine_.idle() && unsent == 0 && !may_come_more", "unsent == 0 && !may_come_more"),
    Mutant("drain does not wait until peers know", PROXY + "driver.cc",
           "engine_.idle() && unsent == 0 && !may_come_more", "engine_.idle() && unsent == 0"),
    Mutant("cancelled and sent all the same", PROXY + "peer_lane.cc", "    queue_.erase(at);\n    return;", "    return;"),
    Mutant("sent after all to an agent that was given up", PROXY + "agent_session.cc", "if (call.end > stream_->handed_bytes()) not_sent", "not_sent"),
    Mutant("reply of one for another", PROXY + "driver.cc", "tell(PeerReplied{lane->peer(), envelope.call_id,", "tell(PeerReplied{lane->peer(), envelope.call_id ^ 1,"),
    Mutant("silence judged before it is heard", PROXY + "driver.cc", "  if (at < grace_until_) return;\n", ""),
    Mutant("calls of a lost agent forgotten", PROXY + "inbound.cc", "    if (call.agent == event.agent && call.state != State::kQueued) lost.push_back(id);", ""),
]


def run(command: str, directory: Path) -> None:
    done = subprocess.run(command, shell=True, cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}\n{done.stdout}{done.stderr}")


def build_mutant(mutant: Mutant, build: Path, scratch: Path) -> Path:
    """The simulation with this bug in it."""
    source = ROOT / mutant.file
    text = source.read_text()
    if text.count(mutant.right) != 1:
        raise RuntimeError(f"mutant '{mutant.name}' does not fit {mutant.file} any more")
    changed = scratch / source.name
    changed.write_text(text.replace(mutant.right, mutant.wrong))
    entry = next(one for one in json.loads((build / "compile_commands.json").read_text())
                 if Path(one["directory"], one["file"]).resolve() == source)
    target = scratch / "mutant.o"
    words = shlex.split(entry["command"])
    words[words.index("-o") + 1] = str(target)
    words[words.index("-c") + 1] = str(changed)
    # The tree itself is no longer where the file is; and what a mutant leaves unused is no error.
    run(shlex.join([*words, f"-I{ROOT}", "-Wno-error"]), build)
    commands = subprocess.run(["ninja", "-t", "commands", "tests/sim/explore"], cwd=build, capture_output=True, text=True, check=True)
    link = shlex.split(commands.stdout.splitlines()[-1])
    program = scratch / "explore"
    link[link.index("-o") + 1] = str(program)
    first_library = next(i for i, word in enumerate(link) if word.endswith(".a"))
    run(shlex.join([*link[:first_library], str(target), *link[first_library:]]), build)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--only", help="the mutant of this name")
    parser.add_argument("--seeds", type=int, default=2000)
    chosen = parser.parse_args()
    survivors = 0
    mutants = [mutant for mutant in MUTANTS if chosen.only in (None, mutant.name)]
    for mutant in mutants:
        with tempfile.TemporaryDirectory() as scratch:
            program = build_mutant(mutant, chosen.build.resolve(), Path(scratch))
            done = subprocess.run([program, "--count", str(chosen.seeds), "--failures", "1"], capture_output=True, text=True)
        survived = done.returncode == 0
        survivors += survived
        story = "survived" if survived else (done.stdout or done.stderr).splitlines()[0]
        print(f"{mutant.name}: {story}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} caught")
    return 1 if survivors or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
