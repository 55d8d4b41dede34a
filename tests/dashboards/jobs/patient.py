"""Analyses that end when they are told to; as a script, a worker that knows them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from pydantic import Field

from analyses import Analysis, Check, Parameters, registry
from analyses.results import storage
from interp.errors import InputError
from interp.progress import report


class PatientParams(Parameters):
    until: str = Field("", description="Waits for this file.")
    value: float = Field(1.0, description="A number to give back.", ge=0)
    fault: str = Field("", description="Fails with this message.")
    crash: bool = Field(False, description="Fails by accident.")
    child: bool = Field(False, description="Starts a process that would outlive it.")


class Patient(Analysis[PatientParams]):
    name = "patient"
    question = "How long can one wait?"
    needs_model = False

    def run(self, model, params):
        print("waiting")
        if params.child:
            child = subprocess.Popen(["sleep", "600"])
            print(f"child {child.pid}", flush=True)
        while params.until and not Path(params.until).exists():
            report(0.25, "a quarter")
            time.sleep(0.02)
        if params.fault:
            raise InputError(params.fault)
        if params.crash:
            raise RuntimeError("<b>by accident</b>")
        table = pd.DataFrame({"value": [params.value]})
        checks = [Check("true", 0.0, 1.0)]
        return self.result(model, params, tables={"waits": table}, figures={}, checks=checks)


if __name__ == "__main__":
    registry._import_all = lambda: None  # the others take seconds to import
    registry._registered["patient"] = Patient
    storage._draw = lambda result, folder: None  # and seaborn seconds more
    from dashboards.jobs.worker import main

    raise SystemExit(main(Path(sys.argv[1])))
