"""What two processes that share a model check together: `test_parallel.py` runs and reads them.

Each check runs in both processes at once, beside the same model on one. What it returns is the
largest difference that it has seen.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.interp.parallel.checks import analyses, generating, rules, sending, values, weights
from tests.interp.parallel.checks.common import CHECKS, Absent

__all__ = ["CHECKS", "analyses", "generating", "rules", "sending", "values", "weights"]
_MOST_SECONDS = 600


def main(folder: Path) -> int:
    """Run both processes, by forking: importing all this takes half as long as the checks."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=run_checks, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(_MOST_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return int(any(process.exitcode for process in processes))


def run_checks(rank: int, folder: Path) -> None:
    """Run every check; write which failed, and how much numbers differed, to `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    found: dict[str, Any] = {}
    for name, fn in CHECKS.items():
        start = time.process_time()
        try:
            found[name] = {"difference": fn(folder)}
        except Absent as absent:
            found[name] = {"skipped": str(absent)}
        except Exception:
            # The other rank may now wait for this one in vain: no check after it means anything.
            found[name] = {"fault": traceback.format_exc()}
            break
        found[name]["seconds"] = time.process_time() - start
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
