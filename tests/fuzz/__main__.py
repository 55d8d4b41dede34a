"""`python -m tests.fuzz --inputs 12000 --seed 0`: every input in a process with limits."""

from __future__ import annotations

import argparse
import collections
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.run import SECONDS, Fuzzer, Outcome

GIB = 2**30


def main() -> int:
    """Run, print counts by kind, and give the exit status: 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="targets by name")
    parser.add_argument("--from", dest="first", type=int, default=0, help="to replay one")
    parser.add_argument("--memory", type=int, default=4, help="GiB beyond what is imported")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    return _work(options) if options.worker else _drive(options)


def _work(options: argparse.Namespace) -> int:
    fuzzer = Fuzzer(options.seed, tuple(options.only))
    fuzzer.one(0)  # what it imports is not the inputs'
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + options.memory * GIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(options.first, options.first + options.inputs):
        print(json.dumps({"begins": number}), flush=True)
        outcome = fuzzer.one(number)
        print(json.dumps(outcome.__dict__), flush=True)
    return 0


def _drive(options: argparse.Namespace) -> int:
    """A worker dies with its input: the next one goes on after it."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    faults: list[Outcome] = []
    first, end, start = options.first, options.first + options.inputs, time.perf_counter()
    while first < end:
        command = [
            sys.executable, "-m", "tests.fuzz", "--worker", "--seed", str(options.seed),
            "--from", str(first), "--inputs", str(end - first), "--memory", str(options.memory),
        ]  # fmt: skip
        command += ["--only", *options.only] if options.only else []
        begun, done = first, False
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                found = json.loads(line) if line.startswith("{") else {}
                if "begins" in found:
                    begun, done = found["begins"], False
                elif "kind" in found:
                    outcome, done = Outcome(**found), True
                    counts[outcome.target][outcome.kind] += 1
                    if outcome.is_fault:
                        faults.append(outcome)
        if not done or worker.returncode:
            faults.append(Outcome(begun, "?", f"the process ended with {worker.returncode}"))
            counts["?"]["the process ended"] += 1
        first = begun + 1
    for target, kinds in counts.items():
        print(f"{target:28}", ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())))
    total = sum(sum(kinds.values()) for kinds in counts.values())
    seconds = time.perf_counter() - start
    print(f"{total} inputs, {len(faults)} faults, {seconds:.0f} s, at most {SECONDS} s each")
    for fault in faults:
        replay = f"--seed {options.seed} --from {fault.number} --inputs 1"
        if options.only:
            replay += " --only " + " ".join(map(repr, options.only))
        print(f"\n{fault.target}: {fault.kind} (python -m tests.fuzz {replay})\n{fault.told}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
