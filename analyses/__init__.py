"""The science: canned analyses, one file each, registered by name."""

from analyses.base import Analysis, Parameters
from analyses.grids import run_grid
from analyses.registry import get_analysis, list_analyses, register, run_analysis
from analyses.results.result import AnalysisResult, Check

__all__ = [
    "Analysis",
    "AnalysisResult",
    "Check",
    "Parameters",
    "get_analysis",
    "list_analyses",
    "register",
    "run_analysis",
    "run_grid",
]
