"""The kind of job that runs an analysis as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analyses import AnalysisResult, run_analysis
from dashboards.jobs.request import Request
from interp import load_model
from interp.interventions import Interventions
from interp.progress import report


def work(request: Request, folder: Path) -> AnalysisResult:
    """Open the model, and run."""
    model: Any = None
    if request.model is not None:
        report(0.0, f"opening {request.model}")
        model = load_model(request.model, device=request.device).eval()
    plan = () if request.interventions is None else Interventions.from_json(request.interventions)
    report(0.0, "running")
    settings: dict[str, Any] = dict(request.settings)
    return run_analysis(request.analysis, model, interventions=plan, **settings)
